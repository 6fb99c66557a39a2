package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	panelsPerRow = 2
	panelWidth   = 5 * vg.Inch
	panelHeight  = 2.2 * vg.Inch
)

// drawPlot writes a picture of a recording as SVG: a panel for each quantity, with the time from
// left to right and the outages shaded.
func drawPlot(rec *recording, outages []period, file string) (err error) {
	if len(rec.at) < 2 {
		return nil // nothing to see
	}
	panels, err := rec.panels(outages)
	if err != nil {
		return fmt.Errorf("plot the measurements: %w", err)
	}
	var rows [][]*plot.Plot
	for len(panels)%panelsPerRow != 0 {
		panels = append(panels, nil)
	}
	for ; len(panels) > 0; panels = panels[panelsPerRow:] {
		rows = append(rows, panels[:panelsPerRow])
	}
	picture := vgsvg.New(panelsPerRow*panelWidth, vg.Length(len(rows))*panelHeight)
	canvas := draw.New(picture)
	canvas.SetColor(color.White) // a page may be dark
	canvas.Fill(canvas.Path())
	const gap = vg.Length(8)
	tiles := draw.Tiles{Rows: len(rows), Cols: panelsPerRow, PadX: 2 * gap, PadY: 2 * gap, PadTop: gap, PadBottom: gap, PadLeft: gap, PadRight: 2 * gap}
	for i, row := range plot.Align(rows, tiles, canvas) {
		for j, part := range row {
			if rows[i][j] != nil {
				rows[i][j].Draw(part)
			}
		}
	}
	to, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = picture.WriteTo(to)
	return errors.Join(err, to.Close())
}

// panels returns a plot of each panel, in the order of the columns.
func (rec *recording) panels(outages []period) (all []*plot.Plot, err error) {
	x := axis(rec.at[len(rec.at)-1])
	byName := map[string]*plot.Plot{}
	lines := map[string]int{}
	for i, c := range rec.columns {
		p := byName[c.panel]
		if p == nil {
			p = newPanel(c, x)
			for _, o := range outages {
				p.Add(band{x.of(o.from), x.of(o.to)})
			}
			byName[c.panel] = p
			all = append(all, p)
		}
		var points plotter.XYs
		for n, value := range rec.values[i] {
			if !math.IsNaN(value) {
				points = append(points, plotter.XY{X: x.of(rec.at[n]), Y: value})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color = colors()[lines[c.panel]%len(colors())]
		lines[c.panel]++
		p.Add(line)
		p.Legend.Add(c.subject, line)
	}
	for _, p := range all {
		p.Y.Min = 0
		p.Y.Max *= 1.3 // leaves space for the legend
	}
	return all, nil
}

// colors returns the colors of the lines of a panel, which differ for the color-blind.
func colors() []color.Color {
	return []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
		color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x55, 0x55, 0x55, 0xff},
	}
}

func newPanel(c column, x timeAxis) *plot.Plot {
	p := plot.New()
	p.Title.Text = c.panel
	if c.unit != "" {
		p.Title.Text += ", " + c.unit
	}
	p.X.Label.Text = x.unit
	p.X.Min, p.X.Max = 0, x.length
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.ThumbnailWidth = vg.Points(12)
	for style, size := range map[*text.Style]float64{
		&p.Title.TextStyle: 11, &p.X.Label.TextStyle: 8, &p.X.Tick.Label: 8, &p.Y.Tick.Label: 8, &p.Legend.TextStyle: 8,
	} {
		style.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
	}
	return p
}

// timeAxis shows times in minutes or, for a long run, in hours.
type timeAxis struct {
	unit   string
	per    time.Duration
	length float64
}

func axis(length time.Duration) timeAxis {
	x := timeAxis{unit: "minutes", per: time.Minute}
	if length >= 3*time.Hour {
		x = timeAxis{unit: "hours", per: time.Hour}
	}
	x.length = x.of(length)
	return x
}

func (x timeAxis) of(d time.Duration) float64 { return d.Seconds() / x.per.Seconds() }

// band shades a panel between two values of x. It is a [plot.Plotter].
type band struct{ from, to float64 }

// Plot implements [plot.Plotter].
func (b band) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	from, to := max(x(b.from), c.Min.X), min(x(b.to), c.Max.X)
	c.FillPolygon(color.RGBA{0xf4, 0xd8, 0xd0, 0xff}, []vg.Point{{X: from, Y: c.Min.Y}, {X: to, Y: c.Min.Y}, {X: to, Y: c.Max.Y}, {X: from, Y: c.Max.Y}})
}
