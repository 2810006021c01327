//! The main figures as a picture: bars in an SVG, drawn by hand.
//!
//! What must always hold: every bar's length is its figure's, from zero on, in one scale for each panel; each bar has its
//! figure beside it; it can be read on a light and on a dark page.

use std::fmt::Write as _;

use super::numbers::{float, rate, short};
use super::results::{AGENT, Contest, Neighbour, Results, Setting};
use super::tables::title;

/// Of the whole picture, in the picture's own units.
const WIDTH: f64 = 860.0;
/// Where the bars begin; the names stand before that.
const LEFT: f64 = 330.0;
/// The longest bar; its figure stands behind it.
const LONGEST: f64 = 390.0;
/// From one bar to the next.
const STEP: f64 = 24.0;
/// How thick a bar is.
const THICK: f64 = 15.0;
/// What a title takes.
const TITLE: f64 = 30.0;
/// Between two panels.
const GAP: f64 = 22.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    /// Beside it.
    pub(crate) name: String,
    /// Its length.
    pub(crate) figure: f64,
    /// The figure in words.
    pub(crate) words: String,
    /// The agent's.
    pub(crate) ours: bool,
}

/// Bars that are compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    /// Above it.
    pub(crate) title: String,
    /// From top to bottom.
    pub(crate) bars: Vec<Bar>,
}

/// The picture of a run; `None` where nothing was measured that it shows.
pub(crate) fn picture(results: &Results) -> Option<String> {
    let panels: Vec<Panel> = panels(results).into_iter().filter(|panel| !panel.bars.is_empty()).collect();
    (!panels.is_empty()).then(|| draw(&panels))
}

/// Names as they stand in a table, without its marks.
fn plain(name: &str) -> String {
    name.replace(['*', '`'], "")
}

fn panels(results: &Results) -> Vec<Panel> {
    let speed = |setting| {
        let contests: Vec<_> = results.contests.iter().filter(|contest| contest.setting == setting).collect();
        let bar = |contest: &&Contest| Bar {
            name: plain(&contest.contestant),
            figure: contest.rate(),
            words: rate(contest.rate()),
            ours: contest.contestant == AGENT,
        };
        let ops = contests.first().map_or(0, |contest| contest.ops);
        Panel { title: format!("{}: ops a second", title(setting, ops)), bars: contests.iter().map(bar).collect() }
    };
    let felt = |title: &str, figure: &dyn Fn(&Neighbour) -> (f64, String)| Panel {
        title: title.to_owned(),
        bars: results
            .neighbours
            .iter()
            .map(|neighbour| {
                let (figure, words) = figure(neighbour);
                let name = plain(&neighbour.contestant);
                Bar { name, figure, words, ours: neighbour.contestant == AGENT }
            })
            .collect(),
    };
    vec![
        speed(Setting::Near),
        speed(Setting::Many),
        speed(Setting::Far),
        felt("The app's commits while the queue is drained, by whom: 99 of 100 took no longer than", &|neighbour| {
            (neighbour.spread.p99, format!("{} ms", short(neighbour.spread.p99)))
        }),
        felt("The app's actions that fail in a drain of the whole queue, by whom", &|neighbour| {
            (neighbour.failed(), short(neighbour.failed()))
        }),
    ]
}

/// Draws panels, one below the other.
pub(crate) fn draw(panels: &[Panel]) -> String {
    let rows: usize = panels.iter().map(|panel| panel.bars.len()).sum();
    let height = float(panels.len() as u64) * (TITLE + GAP) + float(rows as u64) * STEP;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"Figures of cargo bench, as bars\">\n{STYLE}"
    );
    let mut top = 0.0;
    for panel in panels {
        draw_panel(&mut svg, panel, top);
        top += TITLE + GAP + float(panel.bars.len() as u64) * STEP;
    }
    svg.push_str("</svg>\n");
    svg
}

/// No background of its own: the page's is seen through.
const STYLE: &str = "<style>\n\
    text { font: 13px system-ui, sans-serif; fill: #24292f; }\n\
    .title { font-weight: 600; }\n\
    .name { text-anchor: end; }\n\
    .bar { fill: #9aa4af; }\n\
    .ours { fill: #1a7f64; }\n\
    @media (prefers-color-scheme: dark) {\n\
      text { fill: #e6edf3; }\n\
      .bar { fill: #6b7683; }\n\
      .ours { fill: #3fb68b; }\n\
    }\n\
    </style>";

fn draw_panel(svg: &mut String, panel: &Panel, top: f64) {
    let _ = writeln!(svg, "<text class=\"title\" x=\"8\" y=\"{:.0}\">{}</text>", top + 20.0, escaped(&panel.title));
    let most = panel.bars.iter().map(|bar| bar.figure).fold(0.0, f64::max);
    for (place, bar) in panel.bars.iter().enumerate() {
        let y = top + TITLE + float(place as u64) * STEP;
        let length = if most > 0.0 { bar.figure / most * LONGEST } else { 0.0 };
        let (class, baseline) = (if bar.ours { "bar ours" } else { "bar" }, y + THICK - 3.0);
        let (before, behind) = (LEFT - 8.0, LEFT + length + 8.0);
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{before:.0}\" y=\"{baseline:.1}\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LEFT:.0}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{THICK:.0}\" rx=\"2\"/>\n\
             <text x=\"{behind:.1}\" y=\"{baseline:.1}\">{}</text>",
            escaped(&bar.name),
            escaped(&bar.words),
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
