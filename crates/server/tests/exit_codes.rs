//! The tables of exit codes in the documentation are those of the code: README.md says what each means, docs/OPERATIONS.md what the server
//! says with it and what to do.

use std::collections::BTreeSet;
use std::path::Path;

use rookeeper_server::ExitCode;

/// The cells of the table that begins with this heading.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| *line != heading)
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::to_owned).collect())
        .collect();
    assert!(!rows.is_empty(), "{document} has no table {heading:?}");
    rows
}

#[test]
fn the_readme_has_every_code_with_its_meaning() {
    let written = table("README.md", "| exit code | meaning |");
    let expected: Vec<Vec<String>> =
        ExitCode::ALL.iter().map(|code| vec![code.number().to_string(), code.meaning().to_owned()]).collect();
    assert_eq!(written, expected);
}

#[test]
fn the_operations_manual_says_what_to_do_about_every_failure_and_knows_no_other() {
    let rows = table("docs/OPERATIONS.md", "| exit code | what it says | to do |");
    let written: BTreeSet<u8> = rows
        .iter()
        .flat_map(|row| row[0].split(", "))
        .map(|number| number.parse().unwrap_or_else(|_| panic!("{number:?} is no number")))
        .collect();
    let expected: BTreeSet<u8> =
        ExitCode::ALL.iter().filter(|code| **code != ExitCode::Finished).map(|code| code.number()).collect();
    assert_eq!(written, expected);
}

#[test]
fn numbers_and_names_are_told_apart_and_in_order() {
    let numbers = ExitCode::ALL.map(ExitCode::number);
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let names: BTreeSet<&str> = ExitCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), numbers.len());
}
