//! `KIND:ARG`, the short form of a source on a command line.

use super::config::{CommandTable, FilesTable, SourceTable, SqliteTable};

/// Why a text is not `KIND:ARG`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No colon.
    #[error("{text:?} names no kind; {FORMS}")]
    NoKind {
        /// What was given.
        text: String,
    },
    /// A kind that there is not.
    #[error("there is no source kind {kind:?}; {FORMS}")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// Nothing after the colon.
    #[error("{kind}: lacks its path; {FORMS}")]
    NoArgument {
        /// The kind.
        kind: String,
    },
    /// An argv that is not a JSON array of texts.
    #[error("{text:?} is not a JSON array of texts ({why}); {FORMS}")]
    Argv {
        /// What was given.
        text: String,
        /// What the parser says.
        why: String,
    },
}

const FORMS: &str = "write files:PATH, sqlite:PATH, command:PATH or command:[\"PROGRAM\",\"ARG\"]";

/// Parses `KIND:ARG`: the table that configuration would hold, every other key at its default.
///
/// # Errors
/// When the text has no or an unknown kind, or its argument is empty or no argv.
pub fn parse_spec(text: &str) -> Result<SourceTable, SpecError> {
    let (kind, argument) = text.split_once(':').ok_or_else(|| SpecError::NoKind { text: text.to_owned() })?;
    if !["files", "sqlite", "command"].contains(&kind) {
        return Err(SpecError::UnknownKind { kind: kind.to_owned() });
    }
    if argument.trim().is_empty() {
        return Err(SpecError::NoArgument { kind: kind.to_owned() });
    }
    Ok(match kind {
        "files" => SourceTable::Files(FilesTable::new(argument)),
        "sqlite" => SourceTable::Sqlite(SqliteTable::new(argument)),
        _ => SourceTable::Command(CommandTable::new(argv(argument)?)),
    })
}

fn argv(argument: &str) -> Result<Vec<String>, SpecError> {
    if !argument.starts_with('[') {
        return Ok(vec![argument.to_owned()]);
    }
    let error = |why: String| SpecError::Argv { text: argument.to_owned(), why };
    let argv: Vec<String> = serde_json::from_str(argument).map_err(|json| error(json.to_string()))?;
    if argv.first().is_none_or(String::is_empty) {
        return Err(error("it names no program".to_owned()));
    }
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use super::{SpecError, parse_spec};
    use crate::source::config::SourceTable;

    #[test]
    fn the_three_kinds_parse() {
        let SourceTable::Files(files) = parse_spec("files:/etc").expect("files") else { panic!("not files") };
        assert_eq!(files.path.as_os_str(), "/etc");
        let SourceTable::Sqlite(sqlite) = parse_spec("sqlite:/var/a:b.db").expect("sqlite") else {
            panic!("not sqlite")
        };
        assert_eq!(sqlite.path.as_os_str(), "/var/a:b.db");
        let SourceTable::Command(command) = parse_spec("command:[\"sh\", \"-c\", \"a: b\"]").expect("argv")
        else {
            panic!("not command")
        };
        assert_eq!(command.argv, ["sh", "-c", "a: b"]);
        let SourceTable::Command(command) = parse_spec("command:/usr/bin/dump it").expect("path") else {
            panic!("not command")
        };
        assert_eq!(command.argv, ["/usr/bin/dump it"]);
    }

    #[test]
    fn errors_name_what_is_wrong_and_the_forms() {
        for bad in [
            "",
            "/etc",
            "file:/etc",
            "files:",
            "files: ",
            "command:[",
            "command:[]",
            "command:[1]",
            "command:[\"\"]",
        ] {
            let error = parse_spec(bad).expect_err(bad);
            assert!(error.to_string().contains("files:PATH"), "{error}");
        }
        assert_eq!(parse_spec("FILES:/x"), Err(SpecError::UnknownKind { kind: "FILES".to_owned() }));
    }
}
