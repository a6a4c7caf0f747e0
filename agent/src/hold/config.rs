//! `[hooks]` of an agent's configuration.

use std::path::Path;
use std::time::Duration;

use muster_protocol::config::Invalid;
use muster_protocol::units::HumanDuration;
use serde::{Deserialize, Serialize};

/// The longest hold that can be configured.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `[hooks]`: how this service is quiesced while it is captured, and released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HooksConfig {
    /// Program and arguments that quiesce the service; no shell. Empty: it is captured as it runs.
    pub quiesce: Vec<String>,
    /// Program and arguments that release it. May run more than once, and also when nothing is quiesced.
    pub release: Vec<String>,
    /// How long one run of either may take.
    pub timeout: HumanDuration,
    /// The longest that the service is held, from the start of `quiesce` to that of `release`.
    pub max_hold: HumanDuration,
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self {
            quiesce: Vec::new(),
            release: Vec::new(),
            timeout: HumanDuration(Duration::from_secs(30)),
            max_hold: HumanDuration(Duration::from_secs(30)),
        }
    }
}

impl HooksConfig {
    /// Whether there is anything to quiesce.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quiesce.is_empty()
    }

    /// Programs with a relative path start at `base`.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for argv in [&mut self.quiesce, &mut self.release] {
            if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
                // A base that is not UTF-8 leaves the program relative to the folder that hooks run in, where it is missed.
                *program = base.join(&*program).to_str().unwrap_or(program).to_owned();
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let section = "hooks";
        for (key, argv) in [("quiesce", &self.quiesce), ("release", &self.release)] {
            let right = argv.first().is_none_or(|program| !program.is_empty());
            Invalid::unless(right, section, key, "must begin with a program")?;
            let right = argv.iter().all(|word| !word.contains('\0'));
            Invalid::unless(right, section, key, "must hold no NUL character")?;
        }
        let right = self.quiesce.is_empty() || !self.release.is_empty();
        Invalid::unless(
            right,
            section,
            "release",
            "must be given with quiesce: nothing else releases the service",
        )?;
        let right = self.release.is_empty() || !self.quiesce.is_empty();
        Invalid::unless(right, section, "quiesce", "must be given with release")?;
        let right = !self.timeout.0.is_zero();
        Invalid::unless(right, section, "timeout", "must be longer than nothing")?;
        let right = !self.max_hold.0.is_zero() && self.max_hold.0 <= LONGEST;
        Invalid::unless(right, section, "max_hold", "must be longer than nothing and at most a day")
    }
}

#[cfg(test)]
mod tests {
    use super::HooksConfig;
    use std::path::Path;

    fn read(text: &str) -> HooksConfig {
        toml::from_str(text).expect("parses")
    }

    #[test]
    fn what_could_not_be_released_is_refused() {
        for (text, key) in [
            ("quiesce = [\"a\"]", "release"),
            ("release = [\"a\"]", "quiesce"),
            ("quiesce = [\"\"]\nrelease = [\"a\"]", "quiesce"),
            ("quiesce = [\"a\"]\nrelease = [\"a\", \"\\u0000\"]", "release"),
            ("timeout = \"0s\"", "timeout"),
            ("max_hold = \"25h\"", "max_hold"),
        ] {
            assert_eq!(read(text).check().expect_err(text).key, key);
        }
        read("").check().expect("nothing is quiesced");
        read("quiesce = [\"a\"]\nrelease = [\"b\"]").check().expect("both");
    }

    #[test]
    fn relative_programs_start_at_the_folder_of_the_file() {
        let mut hooks = read("quiesce = [\"bin/stop\", \"x/y\"]\nrelease = [\"fsfreeze\", \"-u\"]");
        hooks.resolve(Path::new("/etc/muster"));
        assert_eq!(
            (hooks.quiesce, hooks.release[0].as_str()),
            (vec!["/etc/muster/bin/stop".to_owned(), "x/y".to_owned()], "fsfreeze")
        );
    }
}
