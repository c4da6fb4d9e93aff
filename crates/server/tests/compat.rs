//! COMPAT.md is a contract: its tables are the ones in the code. `ROOKEEPER_UPDATE_COMPAT=1 cargo test -p rookeeper-server --test compat`
//! writes them.

use std::path::Path;

/// Puts `table` between the markers of `section`.
fn with_section(document: &str, section: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {section} -->"), format!("<!-- end of {section} -->"));
    let start = document.find(&begin).expect("the section begins") + begin.len();
    let stop = document.find(&end).expect("the section ends");
    format!("{}\n{}\n{}", &document[..start], table.trim_end(), &document[stop..])
}

#[test]
fn the_tables_are_the_ones_in_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPAT.md");
    let document = std::fs::read_to_string(&path).expect("COMPAT.md is there");
    let tables = [
        ("requests", rookeeper_server::requests_table()),
        ("words", rookeeper_server::words_table()),
        ("admin", rookeeper_server::admin_table()),
        ("configuration", rookeeper_server::config::compat_table()),
        ("metrics", rookeeper_server::metrics_table()),
    ];
    let expected = tables.iter().fold(document, |document, (name, table)| with_section(&document, name, table));
    if std::env::var_os("ROOKEEPER_UPDATE_COMPAT").is_some() {
        std::fs::write(&path, &expected).expect("COMPAT.md can be written");
    }
    let document = std::fs::read_to_string(&path).expect("COMPAT.md is there");
    assert!(document == expected, "COMPAT.md is behind the code; see the head of {}", file!());
}
