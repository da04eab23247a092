//! `docs/LOSSES.md` names the test that shows each bound: every one it names has to be there.

use std::{fs, path::Path};

/// All Rust sources below a directory, one after the other.
fn sources(dir: &Path, all: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_page_of_losses_names_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for room in ["src", "tests", "hub", "wire", "demo"] {
        sources(&top.join(room), &mut all);
    }
    let page = fs::read_to_string(top.join("docs/LOSSES.md")).unwrap();
    // Between backticks, a sentence in words joined by underscores.
    let named: Vec<_> = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 3).collect();
    assert!(named.len() > 15, "{named:?}");
    let name_of = |named: &str| named.rsplit("::").next().unwrap_or_default().to_owned();
    let missing: Vec<_> =
        named.iter().map(|named| name_of(named)).filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
}
