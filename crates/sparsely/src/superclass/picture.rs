//! A confusion matrix with its classes reordered into their groups, as SVG.

use super::{Confusion, chance_share};
use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels of the matrix.
const MATRIX: i32 = 720;
/// Pixels to its left, for names.
const LEFT: i32 = 190;
/// Pixels above it, for title and explanations.
const TOP: i32 = 84;
/// Pixels to its right, for the numbers of the experts.
const RIGHT: i32 = 76;
/// Pixels below, and left of the title.
const MARGIN: i32 = 16;
/// Pixels of a name at least, for each class to have one.
const LEAST_TEXT: i32 = 6;
/// Shares of the largest confusion below this are not to be seen.
const VISIBLE: f64 = 0.004;
/// The colour of the largest confusion; vermillion (Okabe & Ito) frames the groups.
const DARKEST: [f64; 3] = [0.0, 68.0, 136.0];
const FRAME: RGBColor = RGBColor(213, 94, 0);
const RIGHT_ANSWERS: RGBColor = RGBColor(228, 228, 228);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = std::result::Result<T, String>;

/// Rows are classes, columns what they are taken for; darker is more, relative to the largest confusion, as
/// its square root. Right answers are grey. Each group has a frame.
///
/// # Errors
/// If it cannot be drawn.
pub fn picture(
    title: &str,
    class_names: &[String],
    confusion: &Confusion,
    groups: &[Vec<usize>],
) -> Result<String> {
    let mut svg = String::new();
    let size = ((LEFT + MATRIX + RIGHT) as u32, (TOP + MATRIX + MARGIN) as u32);
    let plan = Plan { class_names, groups, cell: f64::from(MATRIX) / class_names.len() as f64 };
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let painted = root.fill(&WHITE).map_err(told).and_then(|()| {
            plan.head(&root, title, confusion)?;
            plan.cells(&root, confusion)?;
            plan.frames(&root)?;
            root.present().map_err(told)
        });
        painted.map_err(|got| Error::Argument {
            op: "picture of a confusion matrix",
            expected: "a picture".into(),
            got,
        })?;
    }
    Ok(svg)
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct Plan<'a> {
    class_names: &'a [String],
    groups: &'a [Vec<usize>],
    /// Pixels of a class.
    cell: f64,
}

impl Plan<'_> {
    /// Pixels from the matrix's corner to the class at `place`.
    fn at(&self, place: usize) -> i32 {
        (place as f64 * self.cell).round() as i32
    }

    fn head(&self, root: &Area<'_>, title: &str, confusion: &Confusion) -> Drawn {
        let write = |text: String, size: i32, y: i32| {
            let style = (FONT, size).into_font().color(&BLACK);
            root.draw(&Text::new(text, (MARGIN, y), style)).map_err(told)
        };
        write(title.to_string(), 19, 10)?;
        let kept = confusion.graph().map_or(0.0, |graph| {
            self.groups.iter().map(|group| graph.kept_share(group)).sum::<f64>()
        });
        let text = format!(
            "{:.0} % of the confusion of {} held-out images lies within the {} groups, {:.0} % would by chance",
            100.0 * kept,
            confusion.images(),
            self.groups.len(),
            100.0 * chance_share(self.groups)
        );
        write(text, 13, 34)?;
        let legend =
            "rows are classes, columns what they are taken for; grey is right; the darkest cell is";
        write(format!("{legend} {:.1} % of a class", 100.0 * largest_mistake(confusion)), 13, 54)
    }

    fn cells(&self, root: &Area<'_>, confusion: &Confusion) -> Drawn {
        let (v, shares) = (confusion.num_classes(), confusion.shares());
        let order: Vec<usize> = self.groups.concat();
        let largest = largest_mistake(confusion);
        for (y, row) in order.iter().enumerate() {
            for (x, column) in order.iter().enumerate() {
                let share = shares[row * v + column] / largest;
                let color = if row == column { RIGHT_ANSWERS } else { shade(share.min(1.0)) };
                if row == column || share >= VISIBLE {
                    let corners = [(x, y), (x + 1, y + 1)]
                        .map(|(x, y)| (LEFT + self.at(x), TOP + self.at(y)));
                    root.draw(&Rectangle::new(corners, color.filled())).map_err(told)?;
                }
            }
        }
        Ok(())
    }

    /// The frame of each group, and the names: of each class where there is room, else of the groups.
    fn frames(&self, root: &Area<'_>) -> Drawn {
        let outside = [(LEFT, TOP), (LEFT + MATRIX, TOP + MATRIX)];
        root.draw(&Rectangle::new(outside, BLACK)).map_err(told)?;
        let mut first = 0;
        for (expert, group) in self.groups.iter().enumerate() {
            let end = first + group.len();
            let corners = [first, end].map(|place| (LEFT + self.at(place), TOP + self.at(place)));
            root.draw(&Rectangle::new(corners, FRAME.stroke_width(2))).map_err(told)?;
            if self.cell as i32 >= LEAST_TEXT {
                for (place, class) in group.iter().enumerate() {
                    let middle = f64::from(self.at(first + place)) + self.cell / 2.0;
                    let size = (self.cell as i32).min(13);
                    self.name(root, &self.class_names[*class], middle as i32, size)?;
                }
            } else {
                let middle = (self.at(first) + self.at(end)) / 2;
                self.name(root, &format!("{} classes", group.len()), middle, 11)?;
            }
            let place = (LEFT + MATRIX + 6, TOP + (self.at(first) + self.at(end)) / 2);
            let style =
                (FONT, 12).into_font().color(&FRAME).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(format!("expert {expert}"), place, style)).map_err(told)?;
            first = end;
        }
        Ok(())
    }

    fn name(&self, root: &Area<'_>, name: &str, middle: i32, size: i32) -> Drawn {
        let anchor = Pos::new(HPos::Right, VPos::Center);
        let style = (FONT, size).into_font().color(&BLACK).pos(anchor);
        root.draw(&Text::new(name.to_string(), (LEFT - 6, TOP + middle), style)).map_err(told)
    }
}

/// The largest share of a class that is taken for another.
fn largest_mistake(confusion: &Confusion) -> f64 {
    let (v, shares) = (confusion.num_classes(), confusion.shares());
    let mistakes = (0..v * v).filter(|at| at / v != at % v).map(|at| shares[at]);
    mistakes.fold(f64::MIN_POSITIVE, f64::max)
}

/// From white to the darkest colour.
fn shade(share: f64) -> RGBColor {
    let depth = share.sqrt();
    let [r, g, b] = DARKEST.map(|dark| (255.0 + (dark - 255.0) * depth).round() as u8);
    RGBColor(r, g, b)
}
