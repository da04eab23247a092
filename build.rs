//! Lists boards/*.toml: the mere existence of a file makes a board, no table in the code names them.

use std::{env, fs, path::Path};

fn main() {
    let top = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let boards = Path::new(&top).join("boards");
    println!("cargo::rerun-if-changed={}", boards.display());
    let mut files: Vec<_> = fs::read_dir(&boards)
        .expect("boards/ is part of the source")
        .map(|entry| entry.expect("boards/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().and_then(|s| s.to_str()).expect("board files have plain names");
        list.push_str(&format!("    ({name:?}, include_str!({:?})),\n", file.display().to_string()));
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("boards.rs"), list).expect("OUT_DIR can be written");
}
