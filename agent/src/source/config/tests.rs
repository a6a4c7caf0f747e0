//! What `[[source]]` and KIND:ARG may say, and what is said of what they may not.

use super::{SourceConfig, SourceConfigError, SourceTable};
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: Vec<SourceTable>,
}

fn parse(text: &str) -> Vec<SourceTable> {
    toml::from_str::<File>(text).expect("parses").source
}

fn resolve(text: &str) -> Result<Vec<SourceConfig>, SourceConfigError> {
    SourceConfig::resolve(&parse(text), Path::new("/srv/fleet"))
}

#[test]
fn a_table_spelled_out_has_every_key() {
    let tables = parse(
        "[[source]]\nkind = \"files\"\npath = \"/a\"\n[[source]]\nkind = \"sqlite\"\npath = \"/b/c.db\"\n\
         [[source]]\nkind = \"command\"\nargv = [\"date\"]\n",
    );
    let tables = SourceTable::spelled_out(tables).expect("names differ");
    let text = toml::to_string(&File { source: tables.clone() }).expect("TOML");
    for line in [
        "name = \"files\"",
        "include = []",
        "exclude = []",
        "one_file_system = true",
        "skip_caches = false",
        "file = \"c.db\"",
        "busy_timeout = \"30s\"",
        "file = \"output\"",
        "timeout = \"1h\"",
        "min_bytes = 1",
        "env = []",
        "dir = \"/\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(parse(&text), tables);
}

#[test]
fn names_default_to_the_kind_and_its_number() {
    let configs = resolve(
        "[[source]]\nkind='files'\npath='/etc'\n[[source]]\nkind='command'\nargv=['true']\n\
         [[source]]\nkind='files'\npath='data'\n[[source]]\nkind='files'\nname='home'\npath='/home'\n\
         [[source]]\nkind='files'\npath='/opt'\n",
    )
    .expect("resolves");
    let names: Vec<&str> = configs.iter().map(|config| config.name().as_str()).collect();
    assert_eq!(names, ["files", "command", "files-2", "home", "files-4"]);
    assert!(format!("{:?}", configs[2].clone().build()).contains("/srv/fleet/data"));
}

#[test]
fn tables_are_written_back_as_they_were_read() {
    let text = "[[source]]\nkind = \"command\"\nargv = [\"dump\"]\nfile = \"all.sql\"\ntimeout = \"5m\"\nmin_bytes = 9\n\
                env = [\"HOME\"]\nrestore = []\n\n[[source]]\nkind = \"files\"\nname = \"etc\"\npath = \"/etc\"\n\
                include = []\nexclude = [\"*.bak\"]\none_file_system = true\nskip_caches = false\n";
    assert_eq!(toml::to_string(&File { source: parse(text) }).expect("writes"), text);
}

#[test]
fn unknown_keys_and_wrong_types_are_refused() {
    for (bad, want) in [
        ("kind='files'\npath='/etc'\nargv=['x']", "argv"),
        ("kind='file'\npath='/etc'", "file"),
        ("path='/etc'", "kind"),
        ("kind='files'", "path"),
        ("kind='files'\npath=3", "path"),
        ("kind='files'\npath='/etc'\nname='Etc'", "[a-z]"),
        ("kind='sqlite'\npath='/a'\nbusy_timeout=30", "30s"),
        ("kind='command'\nargv='true'", "sequence"),
    ] {
        let error = toml::from_str::<File>(&format!("[[source]]\n{bad}\n")).expect_err(bad).to_string();
        assert!(error.contains(want), "{bad}: {error}");
    }
}

#[test]
fn values_that_cannot_be_used_are_named_with_their_key() {
    for (bad, want) in [
        ("kind='files'\npath='/etc'\nexclude=['[']", "exclude"),
        ("kind='sqlite'\npath='/'", "path"),
        ("kind='sqlite'\npath='/a'\nfile='../b'", "file"),
        ("kind='command'\nargv=[]", "argv"),
        ("kind='command'\nargv=['a']\nfile=''", "file"),
        ("kind='command'\nargv=['a']\nenv=['A=1']", "env"),
        ("kind='command'\nargv=['a']\ntimeout='0s'", "timeout"),
    ] {
        let error = resolve(&format!("[[source]]\n{bad}\n")).expect_err(bad).to_string();
        assert!(error.starts_with("source 1 (") && error.contains(want), "{bad}: {error}");
    }
    let relative = SourceConfig::resolve(&[], Path::new("fleet"));
    assert!(matches!(relative, Err(SourceConfigError::Base { .. })));
}

#[test]
fn the_same_source_or_name_twice_is_refused() {
    let error = resolve(
        "[[source]]\nkind='files'\npath='/srv/fleet/a/'\n[[source]]\nkind='files'\nname='b'\npath='a/.'\n",
    );
    assert!(matches!(error, Err(SourceConfigError::Same { position: 2, first: 1, .. })), "{error:?}");
    let error = resolve("[[source]]\nkind='command'\nargv=['a']\n[[source]]\nkind='command'\nargv=['a']\n");
    assert!(matches!(error, Err(SourceConfigError::Same { .. })), "{error:?}");
    let error =
        resolve("[[source]]\nkind='files'\nname='files-2'\npath='/a'\n[[source]]\nkind='files'\npath='/b'\n");
    assert!(matches!(error, Err(SourceConfigError::Name { position: 2, first: 1, .. })), "{error:?}");
    assert!(resolve("[[source]]\nkind='files'\npath='/a'\n[[source]]\nkind='sqlite'\npath='/a'\n").is_ok());
}
