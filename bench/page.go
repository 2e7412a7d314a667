package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// method is the head of the page. Behind the tables come what was found out about them otherwise, and what they don't tell.
var (
	//go:embed method.md
	method string
	//go:embed profile.md
	profile string
	//go:embed silent.md
	silent string
)

// render writes the page from the results that are in the folder.
func render(results, page string) error {
	var all []*Result
	for _, w := range works() {
		text, err := os.ReadFile(filepath.Join(results, w.name+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		out := new(Result)
		if err := json.Unmarshal(text, out); err != nil {
			return fmt.Errorf("%s.json: %w", w.name, err)
		}
		out.again()
		all = append(all, out)
	}
	if len(all) == 0 {
		return fmt.Errorf("%s holds no results", results)
	}
	var b strings.Builder
	b.WriteString(method)
	summary(&b, all)
	for _, out := range all {
		out.page(&b)
	}
	b.WriteString("\n" + profile + "\n" + silent)
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

// again sums up the runs of a result that was read.
func (out *Result) again() {
	for _, p := range out.Points {
		if least := out.limits[p.Series]; p.Limit > 0 && (least == 0 || p.Limit < least) {
			out.limit(p.Series, p.Limit)
		}
	}
	out.summarise()
}

func (out *Result) page(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s (`-only %s`)\n\n", out.Title, out.Work)
	fmt.Fprintf(b, "%s UTC; %s, %d cores, %d MiB; %s, Linux %s; %s.", out.When.Format("2006-01-02 15:04"),
		out.Host.CPU, out.Host.Cores, out.Host.Memory, out.Host.System, out.Host.Kernel, out.Host.Go)
	if len(out.Samples) > 0 {
		last := out.Samples[len(out.Samples)-1]
		fmt.Fprintf(b, " %d runs of %.2g s a row.", last.Round+1, last.Seconds)
	}
	if out.Short {
		b.WriteString(" **A short run: it shows that the harness works, and measures little.**")
	}
	b.WriteString("\n")
	for _, n := range out.Notes {
		fmt.Fprintf(b, "\n%s\n", n)
	}
	out.pointTables(b)
	out.figureTable(b)
}

// pointTables writes a table for each series.
func (out *Result) pointTables(b *strings.Builder) {
	last, load := "", ""
	for _, p := range out.Points {
		if p.Series != last {
			last, load = p.Series, ""
			fmt.Fprintf(b, "\n**%s**\n\n| offered/s | server | CPU µs | user | kernel | × echo | fill | answered/s | lost | generator | others |\n"+
				"| ---: | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n", p.Series)
		}
		offered := ""
		if p.Load != load {
			load, offered = p.Load, p.Load
		}
		fmt.Fprintf(b, "| %s | %s | %.2f | %.2f | %.2f | %s | %s | %.0f | %.2f %% | %.0f %% | %.0f %% |\n", offered, p.Server,
			p.CPU.Median, p.User, p.Kernel, p.ratioText(), fillText(p.Fill), p.Rate, 100*p.Lost, 100*p.Gen, 100*p.Others)
	}
}

func (p Point) ratioText() string {
	if p.Ratio.Median == 0 || p.Server == "echo" {
		return ""
	}
	text := fmt.Sprintf("%.2f (%.2f to %.2f)", p.Ratio.Median, p.Ratio.Low, p.Ratio.High)
	switch {
	case p.Limit == 0:
	case p.Exceeds:
		text += fmt.Sprintf(", **above %.2f**", p.Limit)
	default:
		text += fmt.Sprintf(", within %.2f", p.Limit)
	}
	return text
}

func fillText(f float64) string {
	if f == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", f)
}

func (out *Result) figureTable(b *strings.Builder) {
	if len(out.Figures) == 0 {
		return
	}
	b.WriteString("\n| what | server | value | at most | |\n| --- | --- | ---: | ---: | --- |\n")
	for _, f := range out.Figures {
		limit, verdict := "", f.Note
		if f.Limit > 0 {
			limit = fmt.Sprintf("%s %s", short(f.Limit), f.Unit)
			if f.Value > f.Limit {
				verdict = strings.TrimSuffix("**missed**; "+verdict, "; ")
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s %s | %s | %s |\n", f.Name, f.Server, short(f.Value), f.Unit, limit, verdict)
	}
}

// short writes a number with as many digits as say something.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
