//! The colours of charts, on light ground and on dark.
//!
//! Charts are drawn for light ground. A style in each replaces every colour where whoever looks prefers dark ground, which all browsers
//! tell and viewers that do not know styles leave alone.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// The ground.
pub(crate) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// What is written.
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// What is written for those who want to know more.
pub(crate) const PALE: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Lines to measure by.
pub(crate) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

// Colours that people who see few colours can tell apart (Okabe and Ito).
pub(crate) const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
pub(crate) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(crate) const SKY: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
pub(crate) const RED: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(crate) const PINK: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
pub(crate) const GREY: RGBColor = RGBColor(0x99, 0x99, 0x99);
pub(crate) const LIGHT_GREY: RGBColor = RGBColor(0xbb, 0xbb, 0xbb);

/// Each colour, and what stands for it on dark ground.
const ON_DARK: [(RGBColor, RGBColor); 11] = [
    (PAPER, RGBColor(0x16, 0x19, 0x1d)),
    (INK, RGBColor(0xe6, 0xe6, 0xe6)),
    (PALE, RGBColor(0xa0, 0xa6, 0xad)),
    (GRID, RGBColor(0x36, 0x3b, 0x42)),
    (GREEN, RGBColor(0x2c, 0xc5, 0x9a)),
    (BLUE, RGBColor(0x4d, 0x9f, 0xe0)),
    (SKY, RGBColor(0x86, 0xcd, 0xf5)),
    (RED, RGBColor(0xf0, 0x85, 0x3c)),
    (PINK, RGBColor(0xe3, 0x9c, 0xc5)),
    (GREY, RGBColor(0x8f, 0x95, 0x9c)),
    (LIGHT_GREY, RGBColor(0x70, 0x76, 0x7e)),
];

/// As it is written in an SVG attribute.
pub(crate) fn written(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// The style that makes a picture fit for dark ground, too.
pub(super) fn style() -> String {
    let mut rules = String::new();
    for (light, dark) in ON_DARK {
        let (light, dark) = (written(light), written(dark));
        for property in ["fill", "stroke"] {
            let _ = write!(rules, "svg [{property}=\"{light}\"]{{{property}:{dark}}}");
        }
    }
    format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as WCAG 2 defines it.
    fn luminance(colour: RGBColor) -> f64 {
        let part = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(colour.0) + 0.7152 * part(colour.1) + 0.0722 * part(colour.2)
    }

    fn contrast(left: RGBColor, right: RGBColor) -> f64 {
        let (left, right) = (luminance(left), luminance(right));
        (left.max(right) + 0.05) / (left.min(right) + 0.05)
    }

    #[test]
    fn writing_and_lines_stand_out_on_both_grounds() {
        let dark_ground = ON_DARK[0].1;
        for (light, dark) in [ON_DARK[1], ON_DARK[2]] {
            assert!(contrast(light, PAPER) >= 4.5, "{light:?}");
            assert!(contrast(dark, dark_ground) >= 4.5, "{dark:?}");
        }
        // SKY, PINK and the greys fill areas that have a number beside them; the others draw lines, too.
        for (light, dark) in ON_DARK.iter().filter(|(light, _)| [GREEN, BLUE, RED].contains(light)) {
            assert!(contrast(*light, PAPER) >= 3.0, "{light:?}");
            assert!(contrast(*dark, dark_ground) >= 3.0, "{dark:?}");
        }
    }

    #[test]
    fn no_colour_stands_for_two() {
        for index in [0, 1] {
            let pick = |pair: &(RGBColor, RGBColor)| written(if index == 0 { pair.0 } else { pair.1 });
            let colours: std::collections::BTreeSet<_> = ON_DARK.iter().map(pick).collect();
            assert_eq!(colours.len(), ON_DARK.len());
        }
    }
}
