//! Two axes from zero on, in even steps.

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;

use super::{Area, INK, failed, font, plain};
use crate::failure::Failure;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis<'a> {
    pub(crate) end: f64,
    /// How many numbers stand at it, about.
    pub(crate) labels: usize,
    /// Behind each number, with the space between them.
    pub(crate) unit: &'a str,
    /// What is counted; empty where that is clear.
    pub(crate) what: &'a str,
}

pub(crate) type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws them into a panel, below a title of this size.
///
/// # Errors
/// None that is known: a string takes all that is drawn into it.
pub(crate) fn draw<'a, 'b>(
    area: &'a Area<'b>,
    (title, title_size): (&str, u32),
    across: Axis<'_>,
    upwards: Axis<'_>,
) -> Result<Axes<'a, 'b>, Failure> {
    let mut axes = ChartBuilder::on(area)
        .margin(10)
        .margin_right(20)
        .y_label_area_size(58)
        .x_label_area_size(if across.what.is_empty() { 32 } else { 40 })
        .caption(title, font(title_size, INK))
        .build_cartesian_2d(0.0..across.end, 0.0..upwards.end)
        .map_err(failed)?;
    let upwards_label = |value: &f64| format!("{value:.0}{}", upwards.unit);
    let across_label = |value: &f64| format!("{value:.0}{}", across.unit);
    let mut mesh = axes.configure_mesh();
    plain(&mut mesh)
        .y_labels(upwards.labels)
        .x_labels(across.labels)
        .y_label_formatter(&upwards_label)
        .x_label_formatter(&across_label)
        .y_desc(upwards.what);
    if !across.what.is_empty() {
        mesh.x_desc(across.what);
    }
    mesh.draw().map_err(failed)?;
    Ok(axes)
}
