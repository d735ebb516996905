//! A line over time, drawn here: no library, and nothing for a browser to compute.

use super::{
    html::Html,
    words::{duration, grouped},
};

/// The size of the drawing, in its own units; the browser stretches it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;
/// Points that are drawn at most; each is the mean of those that it stands for.
const POINTS_MAX: usize = 150;

/// A chart of rates, the latest at the end, `interval_seconds` from one to the next, of which
/// `full` make the whole width. `id` is the id of the figure.
pub(super) fn rates(
    id: &str,
    name: &str,
    rates: &[f64],
    interval_seconds: u64,
    full: usize,
) -> Html {
    let points = thinned(rates, POINTS_MAX);
    let top = ceiling(points.iter().copied().fold(0.0, f64::max));
    let spoken = in_words(rates, interval_seconds);
    let mut chart = Html::of(
        "<figure class=\"chart card\" id=\"{}\" data-live><figcaption><span>{}</span>\
         <span>top of the chart: {}</span></figcaption>",
        &[&id, &name, &grouped(top as u64)],
    );
    chart.put(
        "<svg viewBox=\"0 0 600 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        &[&format!("{name}. {spoken}")],
    );
    for y in ["0.5", "50", "99.5"] {
        let line = "<line class=\"grid\" x1=\"0\" x2=\"600\" y1=\"{}\" y2=\"{}\"/>";
        chart.put(line, &[&y, &y]);
    }
    // Of a short history the line ends at the right, too: now.
    let shown = points.len().max(full.min(POINTS_MAX));
    let (line, begin) = path(&points, top, shown);
    if !points.is_empty() {
        let area = format!("M{begin:.1},{HEIGHT} L{} L{WIDTH},{HEIGHT} Z", &line[1..]);
        chart.put("<path class=\"area\" d=\"{}\"/>", &[&area]);
        chart.put("<path class=\"line\" d=\"{}\"/>", &[&line]);
    }
    let whole = interval_seconds * full as u64;
    chart.put(
        "</svg><div class=\"axis\"><span>{} ago</span><span>{}</span><span>now</span></div></figure>",
        &[&duration(whole), &spoken],
    );
    chart
}

/// The line as a path, and where it begins.
fn path(points: &[f64], top: f64, shown: usize) -> (String, f64) {
    let step = WIDTH / (shown.saturating_sub(1)).max(1) as f64;
    let begin = WIDTH - step * points.len().saturating_sub(1) as f64;
    let mut line = String::new();
    for (i, value) in points.iter().enumerate() {
        let x = begin + step * i as f64;
        let y = HEIGHT - (value / top).clamp(0.0, 1.0) * (HEIGHT - 2.0) - 1.0;
        let command = if i == 0 { 'M' } else { 'L' };
        line.push_str(&format!("{command}{x:.1},{y:.1} "));
    }
    line.truncate(line.trim_end().len());
    (line, begin)
}

/// At most `points_max` means of as many values each; the groups end with the latest value.
fn thinned(values: &[f64], points_max: usize) -> Vec<f64> {
    let size = values.len().div_ceil(points_max).max(1);
    let mut means: Vec<f64> = values
        .rchunks(size)
        .map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64)
        .collect();
    means.reverse();
    means
}

/// A round number that is not below the value: 1, 2 or 5 times a power of ten.
fn ceiling(value: f64) -> f64 {
    let mut top = 10.0;
    while top < value {
        top *= match format!("{top:.0}").as_bytes().first() {
            Some(b'2') => 2.5,
            _ => 2.0,
        };
    }
    top
}

fn in_words(rates: &[f64], interval_seconds: u64) -> String {
    let Some(now) = rates.last() else {
        return "nothing measured yet".to_owned();
    };
    let (mut least, mut most, mut sum) = (f64::INFINITY, 0.0_f64, 0.0);
    for rate in rates {
        (least, most, sum) = (least.min(*rate), most.max(*rate), sum + rate);
    }
    let mean = sum / rates.len() as f64;
    let span = duration(rates.len() as u64 * interval_seconds);
    format!("{now:.0} now; {least:.0} to {most:.0}, {mean:.0} on average in {span}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_an_alternative_in_words_and_ends_now() {
        let chart = rates("c", "Events", &[10.0, 30.0, 20.0], 2, 300);
        let html = chart.as_str();
        let spoken = "20 now; 10 to 30, 20 on average in 6 s";
        assert!(
            html.contains(&format!("aria-label=\"Events. {spoken}\"")),
            "{html}"
        );
        assert!(html.contains("<span>10 min ago</span>"), "{html}");
        assert!(html.contains("L600.0,59.8\""), "{html}");
        assert!(html.contains("top of the chart: 50"), "{html}");
        let empty = rates("c", "Events", &[], 2, 300);
        assert!(empty.as_str().contains("nothing measured yet"));
        assert!(!empty.as_str().contains("<path"));
        let one = rates("c", "Events", &[0.0], 2, 300);
        assert!(one.as_str().contains("M600.0,99.0\""), "{}", one.as_str());
    }

    #[test]
    fn points_are_few_and_the_top_is_round() {
        let many: Vec<f64> = (0..300).map(f64::from).collect();
        let thin = thinned(&many, 150);
        assert_eq!((thin.len(), thin[0], thin[149]), (150, 0.5, 298.5));
        assert_eq!(thinned(&many[..5], 150), many[..5]);
        let tops = [0.0, 10.0, 11.0, 21.0, 51.0, 1_999.0, 2_001.0].map(ceiling);
        assert_eq!(tops, [10.0, 10.0, 20.0, 50.0, 100.0, 2_000.0, 5_000.0]);
    }
}
