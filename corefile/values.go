package corefile

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// ParseInt reads w as a decimal number from min to max. A sign may stand before it. Errors are of type *Error.
func ParseInt(w Word, min, max int) (int, error) {
	n, err := strconv.Atoi(w.Text)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, &Error{Pos: w.Pos, Text: quote(w.Text) + " is not a number"}
	}
	if err != nil || n < min || n > max {
		return 0, Errorf(w.Pos, "%s is out of range; %s", clip(w.Text), between(strconv.Itoa(min), strconv.Itoa(max), min > math.MinInt, max < math.MaxInt))
	}
	return n, nil
}

// ParseFloat reads w as a number from min to max; NaN is none. Errors are of type *Error.
func ParseFloat(w Word, min, max float64) (float64, error) {
	f, err := strconv.ParseFloat(w.Text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(f) {
		return 0, &Error{Pos: w.Pos, Text: quote(w.Text) + " is not a number"}
	}
	if err != nil || f < min || f > max {
		text := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
		return 0, Errorf(w.Pos, "%s is out of range; %s", clip(w.Text), between(text(min), text(max), !math.IsInf(min, -1), !math.IsInf(max, 1)))
	}
	return f, nil
}

// ParseDuration reads w as Go's durations are written, "1m30s" for instance; a bare number has no unit and is refused
// unless it is 0. Errors are of type *Error.
func ParseDuration(w Word) (time.Duration, error) {
	d, err := time.ParseDuration(w.Text)
	if err == nil {
		return d, nil
	}
	e := &Error{Pos: w.Pos, Text: quote(w.Text) + " is not a duration", Hint: "write a number and a unit, 500ms, 30s or 5m"}
	if _, err := strconv.ParseFloat(w.Text, 64); err == nil {
		e.Hint = "a unit is missing: write " + clip(w.Text) + "s for seconds"
	}
	return 0, e
}

// ParseDurationIn reads w as ParseDuration does and checks that it is from min to max.
func ParseDurationIn(w Word, min, max time.Duration) (time.Duration, error) {
	d, err := ParseDuration(w)
	if err != nil {
		return 0, err
	}
	if d < min || d > max {
		return 0, Errorf(w.Pos, "%s is out of range; %s", clip(w.Text), between(min.String(), max.String(), min > math.MinInt64, max < math.MaxInt64))
	}
	return d, nil
}

// between words the bounds that there are.
func between(min, max string, hasMin, hasMax bool) string {
	switch {
	case hasMin && hasMax:
		return "write a value from " + min + " to " + max
	case hasMin:
		return "write at least " + min
	default:
		return "write at most " + max
	}
}
