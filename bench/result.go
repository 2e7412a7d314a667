package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Result is what one work found, as it is kept in bench/results.
type Result struct {
	Work    string    `json:"work"`
	Title   string    `json:"title"`
	When    time.Time `json:"when"`
	Took    string    `json:"took"`
	Host    Host      `json:"host"`
	Short   bool      `json:"short,omitempty"`
	Seconds float64   `json:"seconds"`
	Rounds  int       `json:"rounds"`
	Notes   []string  `json:"notes,omitempty"`
	Points  []Point   `json:"points,omitempty"`
	Figures []Figure  `json:"figures,omitempty"`
	Samples []Sample  `json:"samples,omitempty"`
	limits  map[string]float64
}

// Interval is a median with the 95 % interval of its bootstrap.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Point sums up the runs of one server at one load.
type Point struct {
	Series  string   `json:"series"`
	Server  string   `json:"server"`
	Load    string   `json:"load"`
	Runs    int      `json:"runs"`
	CPU     Interval `json:"cpu_us"`
	User    float64  `json:"user_us"`
	Kernel  float64  `json:"kernel_us"`
	Ratio   Interval `json:"ratio"` // to the echo of the same round
	Fill    float64  `json:"fill,omitempty"`
	Rate    float64  `json:"rate"` // answers a second
	Lost    float64  `json:"lost"` // share of what was sent
	Gen     float64  `json:"generator"`
	Others  float64  `json:"others"`
	Limit   float64  `json:"limit,omitempty"` // what the ratio must not exceed
	Exceeds bool     `json:"exceeds,omitempty"`
}

// Figure is one number, with what it must not exceed.
type Figure struct {
	Name   string  `json:"name"`
	Server string  `json:"server"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Limit  float64 `json:"limit,omitempty"`
	Note   string  `json:"note,omitempty"`
}

func (out *Result) figure(server, name string, value float64, unit string, limit float64, note string) {
	out.Figures = append(out.Figures, Figure{name, server, value, unit, limit, note})
}

// verdict says whether the value is within its limit; empty when it has none.
func (f Figure) verdict() string {
	switch {
	case f.Limit == 0:
		return ""
	case f.Value > f.Limit:
		return fmt.Sprintf(", MISSED %s", short(f.Limit))
	}
	return fmt.Sprintf(", within %s", short(f.Limit))
}

func (out *Result) note(format string, args ...any) {
	out.Notes = append(out.Notes, fmt.Sprintf(format, args...))
}

// limit says how many times the echo Godwit's CPU may be in a series.
func (out *Result) limit(series string, ratio float64) {
	if out.limits == nil {
		out.limits = map[string]float64{}
	}
	out.limits[series] = ratio
}

// Below so many queries a second each is a wake-up, and the limit is another one.
const (
	lowLoad  = 20000
	lowLimit = 1.6
)

// limitAt is the limit of a series at a load.
func (out *Result) limitAt(series, at string) float64 {
	limit := out.limits[series]
	if n, err := strconv.Atoi(at); err == nil && n < lowLoad && limit > 0 {
		return max(limit, lowLimit)
	}
	return limit
}

// summarise makes the points from the samples.
func (out *Result) summarise() {
	out.Points = nil
	type key struct{ series, load, server string }
	groups := map[key][]Sample{}
	var order []key
	for _, s := range out.Samples {
		k := key{s.Series, s.Load, s.Server}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	for _, k := range order {
		runs := undisturbed(groups[k])
		p := Point{Series: k.series, Server: k.server, Load: k.load, Runs: len(runs)}
		p.CPU = median(pick(runs, func(s Sample) float64 { return s.CPU }))
		p.User = p.CPU.Median * userShare(runs)
		p.Kernel = p.CPU.Median - p.User
		p.Fill = median(pick(runs, func(s Sample) float64 { return s.Fill })).Median
		p.Rate = median(pick(runs, func(s Sample) float64 { return float64(s.Answered) / s.Seconds })).Median
		p.Lost = median(pick(runs, func(s Sample) float64 { return 1 - float64(s.Answered)/float64(s.Sent) })).Median
		p.Gen = median(pick(runs, func(s Sample) float64 { return s.Generator })).Median
		p.Others = median(pick(runs, func(s Sample) float64 { return s.Others })).Median
		p.Ratio = median(ratios(groups[k], groups[key{k.series, k.load, "echo"}]))
		if k.server == "godwit" {
			p.Limit = out.limitAt(k.series, k.load)
			p.Exceeds = p.Limit > 0 && p.Ratio.Median > p.Limit
		}
		out.Points = append(out.Points, p)
	}
}

// undisturbed leaves out runs beside which something else was going on, if half of them remain.
func undisturbed(runs []Sample) []Sample {
	quiet := slices.DeleteFunc(slices.Clone(runs), func(s Sample) bool { return s.Disturbed })
	if 2*len(quiet) < len(runs) {
		return runs
	}
	return quiet
}

func pick(runs []Sample, f func(Sample) float64) []float64 {
	list := make([]float64, len(runs))
	for i, s := range runs {
		list[i] = f(s)
	}
	return list
}

// userShare is of all runs together: the ticks of a single one are few.
func userShare(runs []Sample) float64 {
	var user, all float64
	for _, s := range runs {
		user += s.User * float64(s.Answered)
		all += s.CPU * float64(s.Answered)
	}
	if all == 0 {
		return 0
	}
	return user / all
}

// ratios pairs the runs of each round, but for pairs of which one was disturbed, if half of them remain.
func ratios(runs, ruler []Sample) []float64 {
	var all, quiet []float64
	for _, s := range runs {
		for _, e := range ruler {
			if e.Round != s.Round || e.CPU == 0 {
				continue
			}
			all = append(all, s.CPU/e.CPU)
			if !s.Disturbed && !e.Disturbed {
				quiet = append(quiet, s.CPU/e.CPU)
			}
		}
	}
	if 2*len(quiet) < len(all) {
		return all
	}
	return quiet
}

// runs gives those of one server at one load.
func (out *Result) runs(series, load, server string) []Sample {
	return slices.DeleteFunc(slices.Clone(out.Samples), func(s Sample) bool {
		return s.Series != series || s.Load != load || s.Server != server
	})
}

// times gives how many times what b takes a takes, in the median of the rounds; 0 when one of them was not measured.
func (out *Result) times(series, load, a, b string) float64 {
	return median(ratios(out.runs(series, load, a), out.runs(series, load, b))).Median
}

// resamples is how often the bootstrap draws.
const resamples = 2000

// median gives the median and its interval; zeros for an empty list.
func median(list []float64) Interval {
	if len(list) == 0 {
		return Interval{}
	}
	random := rand.New(rand.NewPCG(1, uint64(len(list)))) // the same list gives the same interval
	drawn, medians := make([]float64, len(list)), make([]float64, resamples)
	for i := range medians {
		for j := range drawn {
			drawn[j] = list[random.IntN(len(list))]
		}
		medians[i] = middle(drawn)
	}
	slices.Sort(medians)
	return Interval{middle(slices.Clone(list)), medians[resamples*25/1000], medians[resamples*975/1000]}
}

// middle sorts the list.
func middle(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

func (out *Result) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	text = bytes.ReplaceAll(text, []byte("},{"), []byte("},\n{")) // a line for each point, figure and run
	return os.WriteFile(filepath.Join(dir, out.Work+".json"), append(text, '\n'), 0o644)
}
