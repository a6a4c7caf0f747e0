//! The rules of the house, checked against the repository itself: which crate may depend on which, that
//! `muster-protocol` stays pure, that every module says what it is for, and that nothing names a machine.
//!
//! Must never need the network or a build: it reads `cargo metadata` and the files. Every check is a function
//! that returns what it objects to, so that each is also shown to object.

#[path = "house/alert_codes.rs"]
mod alert_codes;
#[path = "house/watching.rs"]
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_protocol::alert::Code;
use serde_json::Value;

/// Our crates, each with those of ours that it may depend on (DESIGN, "The house").
const ARROWS: [(&str, &[&str]); 10] = [
    ("muster-protocol", &[]),
    ("muster-simulator", &["muster-protocol"]),
    // For tests alone: whoever wants it takes it as a dev-dependency.
    ("muster-test-servers", &[]),
    ("muster-share", &["muster-protocol"]),
    ("muster-bus", &["muster-protocol"]),
    ("muster-telemetry", &["muster-protocol"]),
    ("muster-agent", &["muster-protocol", "muster-share", "muster-bus", "muster-telemetry"]),
    ("muster-coordinator", &["muster-protocol", "muster-share", "muster-bus", "muster-telemetry"]),
    (
        "muster",
        &[
            "muster-protocol",
            "muster-share",
            "muster-bus",
            "muster-telemetry",
            "muster-agent",
            "muster-coordinator",
        ],
    ),
    (
        "muster-tests",
        &[
            "muster-protocol",
            "muster-share",
            "muster-bus",
            "muster-telemetry",
            "muster-agent",
            "muster-coordinator",
            // Its benches start them, too.
            "muster-test-servers",
        ],
    ),
];

/// Beginnings of the names of crates that bring a runtime, a clock, the file system, the network or randomness.
const IMPURE_CRATES: [&str; 19] = [
    "async-",
    "backoff",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "redb",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "tempfile",
    "time",
    "tokio",
    "tracing",
];

/// Modules of the standard library that reach outside the process, or run beside the caller.
const IMPURE_STD: [&str; 6] = ["env", "fs", "net", "os", "process", "thread"];

/// Names that mean an ambient clock or ambient randomness wherever they come from.
const IMPURE_NAMES: [&str; 8] =
    ["Instant", "SystemTime", "OsRng", "SysRng", "ThreadRng", "getrandom", "thread_rng", "from_entropy"];

#[test]
fn crates_depend_downwards_only() {
    assert_none(&arrow_violations(&metadata()));
}

#[test]
fn the_protocol_depends_on_nothing_impure() {
    assert_none(&impure_dependencies(&metadata(), "muster-protocol"));
}

/// Calendars without a clock and without files: what reads either is behind features that nobody asks for here.
#[test]
fn the_protocol_takes_calendars_without_their_clocks() {
    let metadata = metadata();
    assert_none(&calendar_features(&metadata, "muster-protocol"));
    let named = |features: &[&str], default: bool| {
        let dependency = serde_json::json!({ "name": "jiff", "kind": null, "features": features, "uses_default_features": default });
        let package = serde_json::json!({ "name": "p", "dependencies": [dependency] });
        calendar_features(&serde_json::json!({ "packages": [package] }), "p").len()
    };
    assert_eq!(named(&["alloc", "tzdb-bundle-always"], false), 0);
    assert_eq!((named(&["alloc", "std"], false), named(&["tz-system"], false), named(&[], true)), (1, 1, 1));
}

#[test]
fn the_protocol_names_no_clock_no_randomness_and_no_system() {
    let source = root().join("protocol/src");
    let mut files = BTreeMap::new();
    for path in rust_files(&source) {
        let text = fs::read_to_string(&path).expect("our own source is UTF-8");
        files.insert(path, text);
    }
    assert!(files.len() > 3, "the sources were not found: {files:?}");
    assert_none(&impure_code(&files));
}

#[test]
fn every_module_opens_with_what_it_is_for() {
    let files: Vec<PathBuf> = ARROWS
        .iter()
        .map(|(name, _)| folder_of(name))
        .flat_map(|folder| [folder.join("src"), folder.join("tests")])
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| rust_files(&folder))
        .collect();
    assert!(files.len() > ARROWS.len(), "the sources were not found: {files:?}");
    let silent: Vec<String> = files
        .iter()
        .filter(|path| !opens_with_docs(&fs::read_to_string(path).expect("our own source is UTF-8")))
        .map(|path| format!("{} does not open with `//!`", path.display()))
        .collect();
    assert_none(&silent);
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    let files = repository_files();
    assert!(files.len() > ARROWS.len(), "the files were not found: {files:?}");
    let mut objections = Vec::new();
    for file in files {
        // Listed but gone: deleted and not committed yet.
        let Ok(bytes) = fs::read(root().join(&file)) else { continue };
        objections.extend(
            places_named(&String::from_utf8_lossy(&bytes)).iter().map(|text| format!("{file}: {text}")),
        );
    }
    assert_none(&objections);
}

/// Who reads the threat model can rely on it: each row names tests, and each of these is one.
#[test]
fn every_test_that_the_threat_model_names_exists() {
    let model = fs::read_to_string(root().join("docs/threat-model.md")).expect("the threat model");
    let sources = rust_files(&root().join("tests/tests"));
    let code: String = sources.iter().map(|path| fs::read_to_string(path).expect("our own source")).collect();
    let (rows, objections) = unfounded(&model, &code);
    assert!(rows > 10, "the table was not found");
    assert_none(&objections);
}

#[test]
fn every_alert_code_has_its_row_in_the_tables() {
    for page in ["docs/operations.md", "docs/alerts.md"] {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let lacking = codes_without_a_row(&text);
        assert!(lacking.is_empty(), "{page} has no row for {lacking:?}");
    }
}

#[test]
fn the_checks_object_to_what_they_are_for() {
    assert_eq!(codes_without_a_row("| SHARE-01, SHARE-02 | x |\nSHARE-03 | y |").len(), Code::ALL.len() - 2);
    let code =
        "#[test]\nfn a_real_test() {}\n#[tokio::test]\nasync fn an_async_test() {}\nfn no_test_at_all() {}\n";
    let row = |cell: &str| {
        format!("| with | can | cannot | tried by |\n|---|---|---|---|\n| a | b | c | {cell} |\n")
    };
    assert_eq!(unfounded(&row("`a_real_test`, `an_async_test`"), code), (1, Vec::new()));
    for wrong in ["`no_test_at_all`", "`a_test_of_dreams`", "words", ""] {
        assert_eq!(unfounded(&row(wrong), code).1.len(), 1, "{wrong}");
    }
    let package = |name: &str, dependencies: &[(&str, Option<&str>)]| {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(name, kind)| serde_json::json!({ "name": name, "kind": kind }))
            .collect();
        serde_json::json!({ "name": name, "dependencies": dependencies })
    };
    let all = |replaced: Value| {
        let mut packages: Vec<Value> = ARROWS
            .iter()
            .filter(|(name, _)| replaced["name"] != *name)
            .map(|(name, _)| package(name, &[]))
            .collect();
        packages.push(replaced);
        serde_json::json!({ "packages": packages })
    };
    let agent = |dependency, kind| all(package("muster-agent", &[(dependency, kind)]));
    assert_none(&arrow_violations(&agent("muster-share", None)));
    assert_none(&arrow_violations(&all(package("muster-tests", &[("muster", Some("dev"))]))));
    assert_eq!(arrow_violations(&agent("muster-coordinator", None)).len(), 1);
    assert_eq!(arrow_violations(&agent("muster-coordinator", Some("dev"))).len(), 1);
    assert_eq!(arrow_violations(&agent("muster-tests", Some("build"))).len(), 1);
    assert_eq!(arrow_violations(&all(package("muster-stray", &[]))).len(), 1);
    assert_eq!(arrow_violations(&serde_json::json!({ "packages": [] })).len(), ARROWS.len());

    let protocol = |dependency| all(package("muster-protocol", &[(dependency, None)]));
    assert_none(&impure_dependencies(&protocol("serde"), "muster-protocol"));
    for name in ["tokio", "tokio-util", "async-nats", "futures-util", "rand", "rand_core", "getrandom"] {
        assert_eq!(impure_dependencies(&protocol(name), "muster-protocol").len(), 1, "{name}");
    }

    let code = |text: &str| impure_code(&BTreeMap::from([(PathBuf::from("src/lib.rs"), text.to_owned())]));
    for pure in [
        "use std::time::Duration;",
        "// an Instant would be wrong\n/// as would std::fs\nfn f() {} // SystemTime",
        "use std::collections::{BTreeMap, btree_map::Entry};",
        "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        "#[cfg(test)]\n#[path = \"a\"]\nuse std::fs;\n",
        "fn fs() { std_fs::x(); }",
    ] {
        assert_none(&code(pure));
    }
    for impure in [
        "use std::fs;",
        "use std::{collections::BTreeMap, fs};",
        "use std::{\n    thread,\n    fmt,\n};",
        "use ::std::net::IpAddr;",
        "fn now() -> u64 { std :: process::id() }",
        "use std::time::{Duration, Instant};",
        "let t = SystemTime::now();",
        "let r = OsRng;",
        "let url = \"http://a\"; let t = SystemTime::now();",
        "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\nuse std::thread;",
        "#[cfg(test)]\nmod vectors;\nuse std::fs;\n",
    ] {
        assert_eq!(code(impure).len(), 1, "{impure}");
    }
    let with_vectors = |parent: &str, child: &str| {
        impure_code(&BTreeMap::from([
            (PathBuf::from(parent), "#[cfg(test)]\nmod vectors;\nmod x;\n".to_owned()),
            (PathBuf::from(child), "use std::fs;\n".to_owned()),
        ]))
    };
    assert_none(&with_vectors("src/lib.rs", "src/vectors.rs"));
    assert_none(&with_vectors("src/age.rs", "src/age/vectors.rs"));
    assert_none(&with_vectors("src/age/mod.rs", "src/age/vectors/mod.rs"));
    assert_eq!(with_vectors("src/age.rs", "src/vectors.rs").len(), 1);
    assert_eq!(with_vectors("src/lib.rs", "src/x.rs").len(), 1);

    assert!(opens_with_docs("//! What it is for.\nfn f() {}"));
    assert!(!opens_with_docs("//!\nfn f() {}"));
    assert!(!opens_with_docs("// What it is for.\n"));
    assert!(!opens_with_docs("\n//! What it is for.\n"));
    assert!(!opens_with_docs(""));

    assert_none(&places_named("see https://docs.example.org/networking and /var/lib/muster"));
    for place in places() {
        assert_eq!(places_named(&format!("first\ncd {place}x")).len(), 1, "{place}");
    }
}

/// Dependencies between our crates, of any kind, that no arrow allows; crates without arrows; arrows without a
/// crate. What the tests crate uses as a dev-dependency is its own affair.
/// Alert codes that no table row of the page begins with.
fn codes_without_a_row(page: &str) -> Vec<Code> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let named: BTreeSet<&str> = rows.flat_map(|cell| cell.split(", ")).collect();
    Code::ALL.iter().copied().filter(|code| !named.contains(code.as_str())).collect()
}

fn arrow_violations(metadata: &Value) -> Vec<String> {
    let arrows = BTreeMap::from(ARROWS);
    let mut objections = Vec::new();
    let mut seen = BTreeSet::new();
    for package in array(metadata, "packages") {
        let name = text(package, "name");
        seen.insert(name);
        let Some(allowed) = arrows.get(name) else {
            objections.push(format!("{name} is a new crate: give it its arrows in DESIGN and here"));
            continue;
        };
        for dependency in array(package, "dependencies") {
            let (target, kind) = (text(dependency, "name"), dependency["kind"].as_str().unwrap_or("normal"));
            let free = kind == "dev" && (name == "muster-tests" || target == "muster-test-servers");
            let ours = arrows.contains_key(target);
            if ours && !free && !allowed.contains(&target) {
                objections.push(format!("{name} must not depend on {target} ({kind})"));
            }
        }
    }
    objections
        .extend(arrows.keys().filter(|name| !seen.contains(**name)).map(|name| format!("{name} is missing")));
    objections
}

/// Normal dependencies of a crate that bring what a pure crate must be given by its caller.
fn impure_dependencies(metadata: &Value, crate_name: &str) -> Vec<String> {
    array(metadata, "packages")
        .iter()
        .filter(|package| text(package, "name") == crate_name)
        .flat_map(|package| array(package, "dependencies"))
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| text(dependency, "name"))
        .filter(|name| IMPURE_CRATES.iter().any(|beginning| name.starts_with(beginning)))
        .map(|name| format!("{crate_name} must not depend on {name}"))
        .collect()
}

/// What a crate takes of the calendar beyond arithmetic and the zones that come with it.
fn calendar_features(metadata: &Value, crate_name: &str) -> Vec<String> {
    const PURE: [&str; 2] = ["alloc", "tzdb-bundle-always"];
    let packages = array(metadata, "packages").iter().filter(|package| text(package, "name") == crate_name);
    let jiff = packages
        .flat_map(|package| array(package, "dependencies"))
        .filter(|dependency| text(dependency, "name") == "jiff");
    jiff.flat_map(|dependency| {
        let features = array(dependency, "features").iter().filter_map(Value::as_str);
        let mut impure: Vec<&str> = features.filter(|feature| !PURE.contains(feature)).collect();
        if dependency["uses_default_features"] != Value::Bool(false) {
            impure.push("its default features");
        }
        impure.into_iter().map(|name| format!("{crate_name} takes {name} of jiff")).collect::<Vec<_>>()
    })
    .collect()
}

/// Impure names in the code of these files (by path), outside of tests and comments.
fn impure_code(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let stripped: Vec<(&PathBuf, String, Vec<String>)> = files
        .iter()
        .map(|(path, text)| {
            let (code, test_modules) = without_tests(text);
            (path, code, test_modules)
        })
        .collect();
    let test_files: Vec<PathBuf> =
        stripped.iter().flat_map(|(path, _, modules)| module_paths(path, modules)).collect();
    let mut objections = Vec::new();
    for (path, code, _) in &stripped {
        if test_files.iter().any(|test| *test == path.with_extension("") || path.starts_with(test)) {
            continue;
        }
        let tokens = tokens(code);
        let named = tokens.iter().filter(|token| IMPURE_NAMES.contains(*token)).copied();
        for name in named.chain(std_modules(&tokens).into_iter().filter(|name| IMPURE_STD.contains(name))) {
            objections.push(format!("{} names {name}", path.display()));
        }
    }
    objections
}

/// The rows of tables whose last column says by which tests they were tried, and what is wrong: a row without a test,
/// or a name anywhere in the text that looks like a test's and is none of `code`.
fn unfounded(model: &str, code: &str) -> (usize, Vec<String>) {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_test = |name: &str| {
        lines.windows(2).any(|pair| {
            let declared = pair[1].trim_start_matches("async ").strip_prefix("fn ");
            ["#[test]", "#[tokio::test]"].contains(&pair[0])
                && declared.is_some_and(|rest| rest.starts_with(&format!("{name}(")))
        })
    };
    let (mut rows, mut within, mut objections) = (0, false, Vec::new());
    for line in model.lines() {
        let named: Vec<&str> =
            line.split('`').skip(1).step_by(2).filter(|word| looks_like_a_test(word)).collect();
        let unknown = named.iter().filter(|name| !is_test(name));
        objections.extend(unknown.map(|name| format!("the threat model names {name}, which is no test")));
        within = line.starts_with('|') && (within || line.ends_with("| tried by |"));
        if within && !line.ends_with("| tried by |") && !line.starts_with("|--") {
            rows += 1;
            if named.is_empty() {
                objections.push(format!("no test tries the row: {line}"));
            }
        }
    }
    (rows, objections)
}

fn looks_like_a_test(word: &str) -> bool {
    word.matches('_').count() >= 2
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The code without its items under `#[cfg(test)]`, and the names of modules declared under it. Relies on
/// rustfmt: a block ends at the first line that is its closing brace at the indentation of its attribute.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules) = (String::new(), Vec::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        let Some(item) = lines.by_ref().find(|line| !line.trim_start().starts_with('#')) else { break };
        if let Some(name) = item.trim().trim_start_matches("pub(crate) ").strip_prefix("mod ") {
            modules.extend(name.strip_suffix(';').map(str::to_owned));
        }
        if !item.trim_end().ends_with([';', '}']) {
            let end = format!("{indentation}}}");
            lines.by_ref().find(|line| *line == end);
        }
    }
    (kept, modules)
}

/// Where the modules declared in the file `path` live, without `.rs`.
fn module_paths(path: &Path, modules: &[String]) -> Vec<PathBuf> {
    let named_after_folder = ["lib.rs", "main.rs", "mod.rs"].iter().any(|name| path.ends_with(name));
    let folder =
        if named_after_folder { path.parent().unwrap_or(path).to_owned() } else { path.with_extension("") };
    modules.iter().map(|name| folder.join(name)).collect()
}

/// Identifiers and single punctuation characters, without comments.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for line in code.lines() {
        // A `//` inside a text, as in a URL, is part of the code.
        let comment = line.match_indices("//").find(|(at, _)| line[..*at].matches('"').count() % 2 == 0);
        let mut rest = comment.map_or(line, |(at, _)| &line[..at]);
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (token, after) = rest.split_at(word.max(first.len_utf8()));
            if !first.is_whitespace() {
                tokens.push(token);
            }
            rest = after;
        }
    }
    tokens
}

/// The modules named directly below `std`, also in a group: `std::{fs, fmt::Debug}` names `fs` and `fmt`.
fn std_modules<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut modules = Vec::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| **token == "std") {
        let Some(after) = tokens[at + 1..].strip_prefix(&[":", ":"]) else { continue };
        match after.first() {
            Some(&"{") => {}
            Some(module) => {
                modules.push(*module);
                continue;
            }
            None => continue,
        }
        let (mut depth, mut before) = (0_u32, "");
        for token in after {
            match *token {
                "{" => depth += 1,
                "}" => depth -= 1,
                module if depth == 1 && matches!(before, "{" | ",") => modules.push(module),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            before = token;
        }
    }
    modules
}

fn opens_with_docs(code: &str) -> bool {
    code.strip_prefix("//! ").is_some_and(|text| text.starts_with(|c: char| !c.is_whitespace()))
}

/// Lines that name a place of one machine, or the host of a package registry.
fn places_named(text: &str) -> Vec<String> {
    let places = places();
    text.lines()
        .enumerate()
        .filter_map(|(at, line)| {
            let place = places.iter().find(|place| line.contains(place.as_str()))?;
            Some(format!("line {} names {place}", at + 1))
        })
        .collect()
}

/// In two halves each, for this file is searched as well.
fn places() -> Vec<String> {
    [
        ("/wo", "rk/"),
        ("/fa", "rm/"),
        ("/tmp/tar", "get-"),
        (".cargo/", "registry"),
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("index.", "crates.io"),
        ("static.", "crates.io"),
        ("registry.", "npmjs.org"),
        ("proxy.", "golang.org"),
    ]
    .map(|(one, two)| format!("{one}{two}"))
    .into()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn folder_of(crate_name: &str) -> PathBuf {
    root().join(match crate_name {
        "muster" => "cli",
        "muster-simulator" => "tests/simulator",
        other => other.trim_start_matches("muster-"),
    })
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Every file that is in the repository or about to be: what git ignores does not count.
fn repository_files() -> Vec<String> {
    let output = Command::new("git")
        // A checkout of another user is no danger here: nothing of it is executed.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("our own file names are UTF-8");
    names.split_terminator('\0').map(str::to_owned).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("cargo metadata has no list `{key}`"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("cargo metadata has no text `{key}`"))
}

#[track_caller]
fn assert_none(objections: &[String]) {
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}
