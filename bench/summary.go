package main

import (
	"fmt"
	"slices"
	"strings"
)

// summary writes what the page comes to: where Godwit stands against its limits and against the others.
func summary(b *strings.Builder, all []*Result) {
	b.WriteString("\n## In short\n\nGodwit's CPU in echoes at each offered rate, **bold** where it is above what it may be at most, and who did the " +
		"same for less. Below 20,000 queries a second the limit is 1.60.\n\n| work | ")
	loads := fixedLoads(all)
	fmt.Fprintf(b, "%s | at most | for less |\n| --- |%s ---: | --- |\n", strings.Join(loads, " | "), strings.Repeat(" ---: |", len(loads)))
	for _, out := range all {
		for _, series := range out.judged() {
			out.summaryRow(b, series, loads)
		}
	}
	b.WriteString("\n| what | value | at most |\n| --- | ---: | ---: |\n")
	for _, out := range all {
		for _, f := range out.Figures {
			if f.Limit == 0 || f.Server != "godwit" {
				continue
			}
			value := short(f.Value) + " " + f.Unit
			if f.Value > f.Limit {
				value = "**" + value + "**"
			}
			fmt.Fprintf(b, "| %s: %s | %s | %s %s |\n", out.Work, f.Name, value, short(f.Limit), f.Unit)
		}
	}
}

// judged lists the series that have a limit, in their order.
func (out *Result) judged() (list []string) {
	for _, p := range out.Points {
		if p.Limit > 0 && !slices.Contains(list, p.Series) {
			list = append(list, p.Series)
		}
	}
	return list
}

// fixedLoads lists all rates that were offered, but for the greatest possible.
func fixedLoads(all []*Result) (list []string) {
	for _, out := range all {
		for _, p := range out.Points {
			if p.Limit > 0 && p.Load != load(0).String() && !slices.Contains(list, p.Load) {
				list = append(list, p.Load)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return len(a) - len(b) })
	return list
}

func (out *Result) summaryRow(b *strings.Builder, series string, loads []string) {
	cells, limit := make([]string, len(loads)), 0.0
	var cheaper []string
	for i, l := range loads {
		own := out.point(series, l, "godwit")
		if own == nil {
			continue
		}
		limit = own.Limit // the greatest load's, in the end
		cells[i] = short(own.Ratio.Median)
		if own.Exceeds {
			cells[i] = "**" + cells[i] + "**"
		}
		for _, p := range out.Points {
			if p.Series != series || p.Load != l || p.Server == "echo" || p.Server == "godwit" {
				continue
			}
			if times := out.times(series, l, "godwit", p.Server); times > 1 {
				cheaper = append(cheaper, fmt.Sprintf("%s at %s (Godwit %.2f of it)", p.Server, l, times))
			}
		}
	}
	fmt.Fprintf(b, "| %s: %s | %s | %s | %s |\n", out.Work, series, strings.Join(cells, " | "), short(limit), strings.Join(cheaper, ", "))
}

func (out *Result) point(series, load, server string) *Point {
	for i := range out.Points {
		if p := &out.Points[i]; p.Series == series && p.Load == load && p.Server == server {
			return p
		}
	}
	return nil
}
