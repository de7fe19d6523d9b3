//! A picture of how long calls took.

use super::report::Figures;
use super::table::RunFigures;
use crate::cli::exit::{Exit, Failure};
use hdrhistogram::Histogram;
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 540);
const TITLE: (&str, i32) = ("sans-serif", 26);
const LETTERS: (&str, i32) = ("sans-serif", 17);
/// From the median to one in a hundred thousand, in steps of a fifth of a nine.
const NINES_MAX: u32 = 25;

/// The share of calls that took no longer, for so many fifths of a nine: 0, 90 %, 99 %, 99.9 %.
fn quantile(fifths: u32) -> f64 {
    1.0 - 10_f64.powf(-f64::from(fifths) / 5.0)
}

/// As far as there are calls to tell it by.
fn curve(took: &Histogram<u64>) -> Vec<(f64, f64)> {
    let known = |fifths: &u32| (took.len() as f64) * (1.0 - quantile(*fifths)) >= 1.0;
    let point = |fifths: u32| {
        let micros = took.value_at_quantile(quantile(fifths)) as f64 / 1_000.0;
        (f64::from(fifths) / 5.0, micros.max(0.1))
    };
    (0..=NINES_MAX).filter(known).map(point).collect()
}

/// Latency by percentile, a line for each kind of call: both axes logarithmic, so that the tail is seen.
pub fn latencies(figures: &Figures) -> Result<String, Failure> {
    let curves: Vec<_> = figures.counted().map(|(operation, counted)| (operation, curve(&counted.took))).collect();
    let points = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let nines = points().map(|(nines, _)| *nines).fold(1.0, f64::max);
    let (least, most) = points()
        .fold((f64::MAX, 1.0), |(least, most), (_, micros)| (f64::min(least, *micros), f64::max(most, *micros)));
    let mut text = String::new();
    draw(&mut text, figures, &curves, (nines, least.min(most), most))
        .map_err(|error| Failure::new(Exit::Refused, format!("the plot could not be drawn: {error}")))?;
    Ok(text)
}

type Curve = (super::load::Operation, Vec<(f64, f64)>);

fn draw(
    text: &mut String,
    figures: &Figures,
    curves: &[Curve],
    (nines, least, most): (f64, f64, f64),
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let caption = format!("{} at {} {}: {}", figures.world, figures.scale, figures.unit, figures.mix);
    let root = root.titled(&caption, TITLE)?;
    let place = format!("{} · seed {}", figures.place.line(), figures.seed);
    let root = root.titled(&place, LETTERS)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..nines, (least * 0.8..most * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("µs")
        .x_labels(6)
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|micros| format!("{micros:.0}"))
        .label_style(LETTERS)
        .axis_desc_style(LETTERS)
        .draw()?;
    for (place, (operation, curve)) in curves.iter().enumerate() {
        let colour = Palette99::pick(place).to_rgba();
        chart
            .draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)))?
            .label(operation.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.4))
        .background_style(WHITE)
        .label_font(LETTERS)
        .draw()?;
    root.present()?;
    Ok(())
}

/// How high one bar stands, with the room between it and the next.
const BAR_HEIGHT: u32 = 44;

/// A bar for each run: processor time of the server for a call.
pub fn bars(runs: &[RunFigures]) -> Result<String, Failure> {
    let mut text = String::new();
    draw_bars(&mut text, runs)
        .map_err(|error| Failure::new(Exit::Refused, format!("the plot could not be drawn: {error}")))?;
    Ok(text)
}

fn draw_bars(text: &mut String, runs: &[RunFigures]) -> Result<(), Box<dyn std::error::Error>> {
    let known: Vec<(String, f64)> = runs
        .iter()
        .filter_map(|run| Some((format!("{}  {}", run.name(), run.mix), run.server_cpu_us_per_operation?.max(0.1))))
        .collect();
    let count = u32::try_from(known.len()).unwrap_or(0).max(1);
    let most = known.iter().map(|(_, micros)| *micros).fold(1.0, f64::max);
    let root = SVGBackend::with_string(text, (SIZE.0, 130 + BAR_HEIGHT * count)).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled("processor time of the server for a call", TITLE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(50)
        .build_cartesian_2d(0.0..most * 1.05, 0.0..f64::from(count))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("µs")
        .x_label_formatter(&|micros| format!("{micros:.0}"))
        .label_style(LETTERS)
        .axis_desc_style(LETTERS)
        .draw()?;
    // The first run stands on top.
    for (place, (name, micros)) in known.iter().rev().enumerate() {
        let bottom = place as f64;
        let bar = [(0.0, bottom + 0.08), (*micros, bottom + 0.5)];
        chart.draw_series([Rectangle::new(bar, Palette99::pick(0).filled())])?;
        let label = format!("{name}: {micros} µs");
        chart.draw_series([Text::new(label, (0.0, bottom + 0.97), LETTERS)])?;
    }
    root.present()?;
    Ok(())
}

/// 0 nines are all calls, 1 is 90 %, 2 are 99 %.
fn percentile(nines: f64) -> String {
    let share = 100.0 * (1.0 - 10_f64.powf(-nines));
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{share:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_percentiles() {
        for (nines, text) in [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")] {
            assert_eq!(percentile(nines), text);
        }
    }

    #[test]
    fn a_curve_ends_where_there_are_no_calls_to_tell_it_by() {
        let mut took = Histogram::new(3).unwrap();
        for micros in 1..=100 {
            took.record(micros * 1_000).unwrap();
        }
        let curve = curve(&took);
        assert_eq!(curve.last().map(|(nines, _)| *nines), Some(2.0));
        assert!(curve.is_sorted_by(|one, next| one.1 <= next.1), "{curve:?}");
    }
}
