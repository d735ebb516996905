//! A straight line through points.

use serde::Serialize;

/// `y = intercept + slope * x`, with the least sum of squares of what is left.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Line {
    pub(super) slope: f64,
    pub(super) intercept: f64,
}

/// The line through `points`; none where they have not two different `x`.
pub(super) fn line(points: &[(f64, f64)]) -> Option<Line> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in points {
        xy += (x - mean_x) * (y - mean_y);
        xx += (x - mean_x) * (x - mean_x);
    }
    if points.len() < 2 || xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    Some(Line {
        slope,
        intercept: mean_y - slope * mean_x,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_it_back() {
        let points: Vec<_> = [250.0, 1_000.0, 2_750.0]
            .map(|x| (x, 30_000.0 + 61.5 * x))
            .into();
        let line = line(&points).unwrap();
        assert!((line.slope - 61.5).abs() < 1e-9);
        assert!((line.intercept - 30_000.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_off_the_line_counts_by_its_square() {
        let line = line(&[(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)]).unwrap();
        assert!(line.slope.abs() < 1e-9 && (line.intercept - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_place_has_no_slope() {
        assert_eq!(line(&[]), None);
        assert_eq!(line(&[(1.0, 2.0)]), None);
        assert_eq!(line(&[(1.0, 2.0), (1.0, 4.0)]), None);
    }
}
