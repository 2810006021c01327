//! `tests/README.md` names scenarios that are there.

use std::fs;
use std::path::Path;

#[test]
fn every_scenario_that_the_tests_readme_names_is_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let readme = fs::read_to_string(tests.join("README.md")).unwrap();
    let named: Vec<(&str, &str)> = readme.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 15, "{named:?}");
    for (file, scenario) in named {
        let places = [tests.join("scenarios"), tests.join("../hook/tests")];
        let found = places.iter().map(|place| fs::read_to_string(place.join(file).with_extension("rs")));
        let text: String = found.filter_map(Result::ok).collect();
        let wanted = if scenario == "*" { "#[test]\nfn ".to_owned() } else { format!("#[test]\nfn {scenario}()") };
        assert!(text.contains(&wanted), "{file}::{scenario} is not there");
    }
}
