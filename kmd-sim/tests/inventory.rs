//! `docs/series.md` is true: its items exist, its vectors are tests, and every row says what becomes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kmd_sim::upstream::Quirks;

/// How many vectors there are of each kind.
const VECTORS: [(char, u32); 8] =
    [('W', 14), ('H', 17), ('T', 29), ('X', 12), ('S', 54), ('F', 22), ('V', 28), ('E', 10)];

struct Row {
    kernel: String,
    here: Vec<String>,
    vectors: Vec<String>,
    live: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Vec<Row> {
    let text = read(&root().join("../docs/series.md"));
    let (items, _) = text.split_once("## Defects").expect("two tables");
    let table = items.lines().filter(|line| line.starts_with("| ")).skip(1);
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [kernel, _, here, vectors, live] = cells[..] else { panic!("not five cells: {line}") };
            Row {
                kernel: kernel.to_owned(),
                here: quoted(here),
                vectors: vectors.split(", ").map(str::to_owned).collect(),
                live: live.to_owned(),
            }
        })
        .collect()
}

/// Whether `path` or `path::item` is in the sources.
fn exists(item: &str) -> bool {
    let (path, name) = item.split_once("::").map_or((item, None), |(path, name)| (path, Some(name)));
    let path = root().join("src").join(path);
    let Some(name) = name else { return path.is_file() };
    let text = read(&path);
    ["fn", "struct", "enum", "trait", "const", "type"].iter().any(|keyword| {
        let declared = format!("{keyword} {name}");
        text.match_indices(&declared).any(|(at, _)| {
            let next = text[at + declared.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Tests named after each vector, as `W-03`. Those that run on the host as well are not counted.
fn vector_tests() -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    rust_files(&root().join("tests"), &mut files);
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        let text = read(&file);
        for (line, next) in text.lines().zip(text.lines().skip(1)) {
            let Some(name) = next.trim_start().strip_prefix("fn ").filter(|_| line.trim() == "#[test]")
            else {
                continue;
            };
            let name = name.split('(').next().unwrap_or_default();
            let mut words = name.splitn(3, '_');
            let (Some(kind), Some(number)) = (words.next(), words.next()) else { continue };
            let is_vector = kind.len() == 1 && number.len() == 2 && number.parse::<u32>().is_ok();
            if is_vector && !name.contains("_on_the_host") {
                let vector = format!("{}-{number}", kind.to_uppercase());
                tests.entry(vector).or_default().push(name.to_owned());
            }
        }
    }
    tests
}

fn all_vectors() -> Vec<String> {
    VECTORS.iter().flat_map(|(kind, count)| (1..=*count).map(move |n| format!("{kind}-{n:02}"))).collect()
}

#[test]
fn every_item_of_the_table_is_in_the_sources() {
    let missing: Vec<(String, String)> = rows()
        .into_iter()
        .flat_map(|row| row.here.clone().into_iter().map(move |item| (row.kernel.clone(), item)))
        .filter(|(_, item)| !exists(item))
        .collect();
    assert_eq!(missing, []);
}

#[test]
fn every_row_names_its_live_path_or_says_why_there_is_none() {
    let silent: Vec<String> = rows()
        .into_iter()
        .filter(|row| match row.live.strip_prefix("none: ") {
            Some(reason) => reason.is_empty(),
            None => {
                let items: Vec<String> =
                    quoted(&row.live).into_iter().filter(|item| item.contains(".rs")).collect();
                items.is_empty() || !items.iter().all(|item| exists(item))
            }
        })
        .map(|row| format!("{}: {}", row.kernel, row.live))
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn every_vector_of_the_table_is_a_test() {
    let tests = vector_tests();
    let missing: Vec<String> =
        rows().into_iter().flat_map(|row| row.vectors).filter(|vector| !tests.contains_key(vector)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn each_of_the_186_vectors_is_a_test_and_there_are_no_others() {
    let tests = vector_tests();
    let all = all_vectors();
    assert_eq!(all.len(), 186);
    let missing: Vec<&String> = all.iter().filter(|vector| !tests.contains_key(*vector)).collect();
    assert_eq!(missing, Vec::<&String>::new());
    let unknown: Vec<&String> = tests.keys().filter(|vector| !all.contains(vector)).collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn every_defect_of_the_table_is_a_switch_and_has_its_test() {
    let text = read(&root().join("../docs/series.md"));
    let (_, defects) = text.split_once("## Defects").expect("two tables");
    let mut listed = Vec::new();
    for line in defects.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, _, _, test] = cells[..] else { panic!("not five cells: {line}") };
        let test = quoted(test).pop().expect("a test");
        let (file, name) = test.split_once("::").expect("file and function");
        assert!(read(&root().join("tests").join(file)).contains(&format!("fn {name}()")), "no test {test}");
        listed.push(number.to_owned());
    }
    let switches: Vec<String> = Quirks::ALL.iter().map(|(number, _)| (*number).to_owned()).collect();
    listed.sort_unstable();
    let mut expected = switches;
    expected.sort_unstable();
    assert_eq!(listed, expected);
}
