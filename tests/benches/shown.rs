//! Tables, thresholds, the picture, the README's block, and what may be asked for.

use super::loops::REFERENCE;
use super::options::{Options, Scale};
use super::picture::{Bar, Panel, draw, picture};
use super::readme::replaced;
use super::results::{AGENT, Contest, Results, Setting};
use super::tables::report;
use super::thresholds::{summary, thresholds};

fn contest(setting: Setting, contestant: &str, seconds: f64, written: u64) -> Contest {
    let (contestant, written) = (contestant.to_owned(), Some(written));
    let (peak_kb, processor_s) = (Some(7372), None);
    Contest { setting, contestant, ops: 100_000, rounds: 3, requests: 100, seconds, processor_s, peak_kb, written }
}

fn results() -> Results {
    let contests = vec![
        contest(Setting::Near, AGENT, 0.25, 5_000_000),
        contest(Setting::Near, REFERENCE.name, 2.0, 3_000_000_000),
        contest(Setting::Many, AGENT, 1.0, 100),
        contest(Setting::Many, REFERENCE.name, 4.0, 1000),
    ];
    Results { contests, ..Results::default() }
}

fn cell(results: &Results, what: &str) -> [String; 4] {
    thresholds(results)
        .iter()
        .map(super::thresholds::Threshold::cells)
        .find(|cells| cells[0].starts_with(what))
        .unwrap()
}

#[test]
fn a_ratio_is_to_the_reference_of_the_same_setting() {
    let results = results();
    let ratio = |setting| results.ratio(results.contest(setting, AGENT).unwrap()).unwrap();
    assert!((ratio(Setting::Near) - 8.0).abs() < 1e-9 && (ratio(Setting::Many) - 4.0).abs() < 1e-9);
    let table = report(&results);
    let line = table.lines().find(|line| line.starts_with("| **the agent**")).unwrap();
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    assert_eq!(cells[2..8], ["400,000", "8.0", "7.2 MiB", "5.0 MB", "–", "100"]);
    let columns: Vec<_> =
        table.lines().filter(|line| line.starts_with("| ")).take(4).map(|l| l.chars().count()).collect();
    assert!(columns.windows(2).all(|two| two[0] == two[1]), "{table}");
}

#[test]
fn a_threshold_is_reached_missed_or_not_measured() {
    let results = results();
    let said = |what| cell(&results, what)[2..].to_vec();
    assert_eq!(said("100,000 ops, as fast"), ["8.0 times", "reached"]);
    assert_eq!(said("a million ops, as fast"), ["4.0 times", "**not reached**"]);
    assert_eq!(said("a million ops, bytes"), ["0.100", "reached"]);
    assert_eq!(said("a million ops, peak"), ["7.2 MiB", "reached"]);
    assert_eq!(said("20 ms away"), ["–", "not measured"]);
    assert_eq!(summary(&thresholds(&results)), "Of 13 things to be reached 3 are, 1 are not, 9 were not measured.");
}

#[test]
fn a_bar_is_as_long_as_its_figure_and_its_words_do_no_harm() {
    let bar = |name: &str, figure, ours| Bar { name: name.to_owned(), figure, words: format!("{figure}"), ours };
    let panel =
        Panel { title: "a < b".to_owned(), bars: vec![bar("us & them", 400.0, true), bar("them", 100.0, false)] };
    let svg = draw(&[panel.clone(), panel]);
    let widths: Vec<f64> = svg
        .lines()
        .filter(|line| line.starts_with("<rect"))
        .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(widths.len(), 4);
    assert!((widths[0] / widths[1] - 4.0).abs() < 0.01, "{widths:?}");
    assert!(svg.contains("a &lt; b") && svg.contains("us &amp; them") && !svg.contains("us & them"));
    assert_eq!(svg.matches("class=\"bar ours\"").count(), 2);
    assert!(picture(&Results::default()).is_none());
    assert!(picture(&results()).unwrap().contains(">400,000<"));
}

#[test]
fn the_readme_changes_between_its_marks_and_nowhere_else() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let once = replaced(&readme, "a table\n").unwrap();
    assert_eq!(replaced(&once, "a table\n").unwrap(), once);
    let (before, behind) = once.split_once("a table\n").unwrap();
    let marks = (readme.find(before), readme.rfind(behind.trim_start()));
    assert!(marks.0 == Some(0) && marks.1.is_some(), "what stands around it is as it was");
    assert_eq!(replaced("no marks", "a table"), None);
}

#[test]
fn only_the_whole_bench_may_write_and_only_cargo_bench_measures_in_earnest() {
    let of = |words: &str| Options::of(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let scale = |words| of(words).unwrap().scale;
    assert_eq!((scale("--bench"), scale("--bench --quick")), (Scale::FULL, Scale::QUICK));
    assert_eq!(scale("some_test --nocapture"), Scale::SMOKE);
    let some = of("--bench throughput").unwrap();
    assert!(some.wants("throughput-1m") && !some.wants("delay") && !some.is_complete());
    assert!(of("--bench --write").unwrap().is_complete());
    for refused in ["--bench --write --quick", "--bench --write delay", "--bench --writ", "--bench nonsense"] {
        assert!(of(refused).is_err(), "{refused}");
    }
}
