//! Plots as SVG: as much as lines and bars need.

use std::fmt::Write;

/// The whole picture, in pixels.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 480.0;
/// What is around the plot.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Marks of an axis, more or less.
const TICKS: f64 = 6.0;
/// Points of a line that are marked one by one, at most.
const MARKED_POINTS_MAX: usize = 100;
/// Colours that most people can tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444",
];

/// What a plot says beside its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
}

/// Points of one name, in any order.
pub(super) type Series<'a> = (&'a str, Vec<(f64, f64)>);

/// How the horizontal axis goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Axis {
    /// From 0, evenly.
    Even,
    /// Doubling; every value that occurs is marked.
    Doubling,
}

/// A line for each series, from 0 upwards.
pub(super) fn lines(labels: Labels<'_>, axis: Axis, series: &[Series<'_>]) -> String {
    let points = || series.iter().flat_map(|(_, points)| points);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut xs: Vec<f64> = points().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (first, last) = (
        xs.first().copied().unwrap_or(0.0),
        xs.last().copied().unwrap_or(1.0),
    );
    let (step, top) = steps(top);
    let mut picture = Picture::new(labels, step, top);
    let marks = match axis {
        Axis::Even => {
            let (step, end) = steps(last);
            (0..=(end / step).round() as u32)
                .map(|i| f64::from(i) * step)
                .filter(|x| *x <= last * 1.001)
                .collect()
        }
        Axis::Doubling => xs,
    };
    let place = |x: f64| match axis {
        Axis::Even => LEFT + x / last.max(1e-9) * plot_width(),
        // A little room at both ends; a single value is in the middle.
        Axis::Doubling => {
            let span = (last / first.max(1e-9)).log2();
            let part = if span > 0.0 {
                (x / first).log2() / span
            } else {
                0.5
            };
            LEFT + (0.05 + 0.9 * part) * plot_width()
        }
    };
    for mark in marks {
        picture.mark_x(place(mark), &number(mark));
    }
    for (i, (name, points)) in series.iter().enumerate() {
        let mut points = points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let places: Vec<_> = points
            .iter()
            .map(|(x, y)| (place(*x), picture.height_of(*y)))
            .collect();
        picture.line(i, &places);
        picture.legend(i, name);
    }
    picture.finish()
}

/// Groups of bars; each group has a value for each of the names, or none.
pub(super) fn bars(
    labels: Labels<'_>,
    names: &[&str],
    groups: &[(&str, Vec<Option<f64>>)],
) -> String {
    let values = groups.iter().flat_map(|(_, values)| values).flatten();
    let (step, top) = steps(values.copied().fold(0.0, f64::max));
    let mut picture = Picture::new(labels, step, top);
    let room = plot_width() / groups.len().max(1) as f64;
    let width = room * 0.8 / names.len().max(1) as f64;
    for (g, (group, values)) in groups.iter().enumerate() {
        let left = LEFT + room * g as f64;
        picture.mark_x(left + room / 2.0, group);
        for (i, value) in values.iter().enumerate() {
            if let Some(value) = value {
                picture.bar(i, left + room * 0.1 + width * i as f64, width, *value);
            }
        }
    }
    for (i, name) in names.iter().enumerate() {
        picture.legend(i, name);
    }
    picture.finish()
}

/// Pictures one below the other, as one.
pub(super) fn stacked(pictures: &[String]) -> String {
    let height = HEIGHT * pictures.len() as f64;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">"#
    );
    svg.push('\n');
    for (i, picture) in pictures.iter().enumerate() {
        let y = HEIGHT * i as f64;
        let _ = writeln!(svg, r#"<g transform="translate(0 {y})">"#);
        svg.push_str(picture);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn plot_width() -> f64 {
    WIDTH - LEFT - RIGHT
}

/// A round step between marks, and the first multiple of it that is not below `top`.
fn steps(top: f64) -> (f64, f64) {
    let top = if top > 0.0 { top } else { 1.0 };
    let rough = top / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough);
    (step, (top / step - 0.001).ceil() * step)
}

/// Without decimals that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

struct Picture {
    svg: String,
    /// The value at the upper edge of the plot.
    top: f64,
}

impl Picture {
    /// An empty plot with a vertical axis from 0 to `top`.
    fn new(labels: Labels<'_>, step: f64, top: f64) -> Picture {
        let mut picture = Picture {
            svg: String::new(),
            top,
        };
        let _ = writeln!(
            picture.svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="#ffffff"/>"##
        );
        let middle = LEFT + plot_width() / 2.0;
        picture.text(middle, 28.0, "middle", 16, labels.title);
        picture.text(middle, HEIGHT - 14.0, "middle", 13, labels.x);
        picture.text(10.0, TOP - 12.0, "start", 13, labels.y);
        for i in 0..=(top / step).round() as u32 {
            let value = f64::from(i) * step;
            let y = picture.height_of(value);
            let _ = writeln!(
                picture.svg,
                r##"<line x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}" stroke="#dddddd"/>"##,
                WIDTH - RIGHT
            );
            picture.text(LEFT - 8.0, y + 4.0, "end", 12, &number(value));
        }
        picture
    }

    fn height_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        let text = escaped(text);
        let _ = writeln!(
            self.svg,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{text}</text>"#
        );
    }

    fn mark_x(&mut self, x: f64, text: &str) {
        let base = HEIGHT - BOTTOM;
        let _ = writeln!(
            self.svg,
            r##"<line x1="{x:.1}" y1="{base}" x2="{x:.1}" y2="{:.1}" stroke="#888888"/>"##,
            base + 5.0
        );
        self.text(x, base + 20.0, "middle", 12, text);
    }

    fn line(&mut self, colour: usize, points: &[(f64, f64)]) {
        let colour = COLOURS[colour % COLOURS.len()];
        let all: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let all = all.join(" ");
        let _ = writeln!(
            self.svg,
            r#"<polyline points="{all}" fill="none" stroke="{colour}" stroke-width="2"/>"#
        );
        // More of them would hide the line.
        let marked = points.len() <= MARKED_POINTS_MAX;
        for (x, y) in points.iter().filter(|_| marked) {
            let _ = writeln!(
                self.svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#
            );
        }
    }

    fn bar(&mut self, colour: usize, x: f64, width: f64, value: f64) {
        let (y, colour) = (self.height_of(value), COLOURS[colour % COLOURS.len()]);
        let height = HEIGHT - BOTTOM - y;
        let _ = writeln!(
            self.svg,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{colour}"/>"#,
            width * 0.95
        );
    }

    fn legend(&mut self, index: usize, name: &str) {
        let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 20.0 * index as f64);
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(
            self.svg,
            r#"<rect x="{x:.1}" y="{y:.1}" width="12" height="12" fill="{colour}"/>"#
        );
        self.text(x + 18.0, y + 11.0, "start", 12, name);
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> = Labels {
        title: "RSS & <more>",
        x: "hosts",
        y: "MiB",
    };

    /// The elements of a document, which must be nested well, with quoted attributes and escaped
    /// text. Not XML, but what an SVG of ours needs of it.
    fn elements(svg: &str) -> Vec<&str> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let mut rest = svg;
        while let Some(at) = rest.find('<') {
            let text = &rest[..at];
            assert!(!text.contains('>'), "{text}");
            for (i, _) in text.match_indices('&') {
                let escape = ["&amp;", "&lt;", "&gt;"];
                assert!(escape.iter().any(|e| text[i..].starts_with(e)), "{text}");
            }
            let end = at + rest[at..].find('>').expect("a tag that ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "closed in order");
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split([' ', '/']).next().unwrap();
            assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
            all.push(name);
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?}");
        all
    }

    fn count(svg: &str, name: &str) -> usize {
        elements(svg).iter().filter(|n| **n == name).count()
    }

    #[test]
    fn lines_have_a_point_for_each_value() {
        let series = [
            (
                "glibc",
                vec![(1_000.0, 80.0), (250.0, 30.0), (2_750.0, 190.0)],
            ),
            ("jemalloc", vec![(250.0, 40.0), (1_000.0, 100.0)]),
        ];
        for axis in [Axis::Even, Axis::Doubling] {
            let svg = lines(LABELS, axis, &series);
            assert_eq!((count(&svg, "polyline"), count(&svg, "circle")), (2, 5));
            assert!(svg.contains("RSS &amp; &lt;more&gt;"));
            assert!(
                svg.contains(">200</text>"),
                "the axis ends on a round number"
            );
        }
        // Values of a doubling axis are marked as they are.
        assert!(lines(LABELS, Axis::Doubling, &series).contains(">2750</text>"));
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let groups = [
            ("idle", vec![Some(50.0), Some(100.0)]),
            ("load", vec![None, Some(25.0)]),
        ];
        let svg = bars(LABELS, &["glibc", "jemalloc"], &groups);
        // Three bars, two squares of the legend, and the background.
        assert_eq!(count(&svg, "rect"), 6);
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x=") && !line.contains(r#"height="12""#))
            .filter_map(|line| {
                line.split("height=\"")
                    .nth(1)?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(heights.len(), 3);
        assert!((heights[0] / heights[1] - 0.5).abs() < 0.01, "{heights:?}");
        assert!((heights[2] / heights[1] - 0.25).abs() < 0.01, "{heights:?}");
    }

    #[test]
    fn many_points_are_a_line_alone() {
        let points = (0..=MARKED_POINTS_MAX).map(|i| (i as f64, 1.0)).collect();
        let svg = lines(LABELS, Axis::Even, &[("one", points)]);
        assert_eq!((count(&svg, "polyline"), count(&svg, "circle")), (1, 0));
    }

    #[test]
    fn pictures_are_stacked() {
        let one = lines(LABELS, Axis::Even, &[("one", vec![(0.0, 1.0), (1.0, 2.0)])]);
        let svg = stacked(&[one.clone(), one]);
        assert_eq!((count(&svg, "svg"), count(&svg, "polyline")), (3, 2));
        assert!(svg.contains(r#"height="960""#) && svg.contains("translate(0 480)"));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(count(&lines(LABELS, Axis::Even, &[]), "polyline"), 0);
        elements(&lines(LABELS, Axis::Doubling, &[("one", vec![(5.0, 0.0)])]));
        elements(&bars(LABELS, &[], &[]));
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(steps(190.0), (50.0, 200.0));
        assert_eq!(steps(200.0), (50.0, 200.0));
        assert_eq!(steps(10_000.0), (2_000.0, 10_000.0));
        assert_eq!(steps(0.0), (0.2, 1.0));
        assert_eq!(number(2_750.0), "2750");
        assert_eq!(number(0.25), "0.25");
    }
}
