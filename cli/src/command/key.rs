//! `muster key`: recovery keys. `generate` makes one: the private half goes to a file that only its owner may read, or to
//! standard output if that was asked for by `-`; never anywhere else.

mod prove;
mod rotate;

use std::path::Path;

use muster_protocol::age::Identity;
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;

use crate::args::Key;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::screen;

/// Does it.
pub(crate) async fn run(key: Key) -> Outcome {
    match key {
        Key::Generate { out } => generate(&out),
        Key::Rotate(args) => rotate::run(args).await,
        Key::Prove(args) => prove::run(args).await,
    }
}

fn generate(out: &Path) -> Outcome {
    let identity = Identity::generate(&mut OsEntropy);
    let text = identity.to_file_text(&screen::rfc3339(screen::now()));
    if out == Path::new("-") {
        screen::lines(text.trim_end());
        screen::aside(format!("recipient: {}", identity.recipient()));
        return Ok(Exit::Done);
    }
    secret_file::create(out, text.as_bytes())?;
    screen::line(identity.recipient().to_string());
    screen::aside(format!("the private key is in {}: keep it offline, apart from the fleet", out.display()));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::generate;
    use crate::exit::Exit;
    use muster_share::secret_file;

    #[test]
    fn the_file_holds_an_identity_and_is_never_written_over() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("new.key");
        assert_eq!(generate(&path).expect("made"), Exit::Done);
        let first = secret_file::read_identities(&path).expect("an identity")[0].recipient();
        let failure = generate(&path).expect_err("taken");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("new.key exists already"), "{failure}");
        assert_eq!(secret_file::read_identities(&path).expect("an identity")[0].recipient(), first);
    }
}
