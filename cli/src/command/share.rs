//! `muster share`: what concerns the share itself. `credentials` takes those of the share once, seals them to the coordinators,
//! and shows a fingerprint from then on; `test` uses the share as a round would;
//! `copy` keeps a second share beside it.

mod copy;
mod test;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use muster_protocol::config::ShareConfig;
use muster_share::credentials::{Credentials, MAX_CREDENTIALS_LEN};
use muster_share::entropy::OsEntropy;
use muster_share::secret_file;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args::{CredentialsArgs, Share};
use crate::command::init::plan::real;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet, open_store_with};
use crate::round_view::HeadView;
use crate::screen;
use crate::sealed_files;
use crate::trial;

/// Longest test of new credentials.
const TRIAL: Duration = Duration::from_secs(60);

/// `{"schema":"muster.share-credentials/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    /// None: there are none any more.
    fingerprint: Option<String>,
    /// None: nothing was changed.
    head: Option<HeadView>,
}

/// Does it.
pub(crate) async fn run(args: Share) -> Outcome {
    match args {
        Share::Credentials(args) => credentials(args).await,
        Share::Test(args) => test::run(args).await,
        Share::Copy(args) => copy::run(args).await,
    }
}

async fn credentials(args: CredentialsArgs) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.contact.config.as_deref())?;
    if let Some(from) =
        args.from.as_deref().filter(|from| real(from).is_ok_and(|from| from.starts_with(folder.join("keys"))))
    {
        return Err(Failure::usage(format!("--from {} is a key of the fleet", from.display()))
            .next("name the file with the share's credentials"));
    }
    let secret = args.from.as_deref().map(read).transpose()?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let admin = sealed_files::admin(fleet.state(), &operator)?;
    let credentials = secret.map(|secret| Credentials::new(secret, &mut OsEntropy));
    if let Some(credentials) = &credentials {
        try_out(&fleet.share, credentials, args.force).await?;
    }
    let fingerprint = credentials.as_ref().map(Credentials::fingerprint);
    let head = sealed_files::publish(&mut fleet.log, &admin, &sealed_files::keys(&folder), |_, sealed| {
        sealed.credentials.clone_from(&credentials);
        Ok(())
    })
    .await?;
    fleet.remember()?;
    if args.contact.json {
        screen::json(&View {
            schema: "muster.share-credentials/1",
            fingerprint,
            head: head.map(|head| HeadView { number: head.number, hash: head.hash.to_string() }),
        });
        return Ok(Exit::Done);
    }
    let record = head.map(|head| format!(" · log record {}", head.number)).unwrap_or_default();
    screen::line(match &fingerprint {
        Some(fingerprint) => format!("share credentials {fingerprint} (fingerprint){record}"),
        None => format!("the fleet keeps no share credentials{record}"),
    });
    if fingerprint.is_some() {
        screen::line(
            "sealed to recovery keys and coordinators; agents are told with their next round, and nobody else",
        );
        if let Some(file) = args.from.filter(|file| file != Path::new("-")) {
            screen::line(format!("  → remove {} now", file.display()));
        }
    }
    Ok(Exit::Done)
}

/// Refuses credentials that no agent could use: those of another kind of share, and those with which it does not do what a round
/// asks of it.
///
/// # Errors
/// Exit 5 when they are none of this kind of share; with the share's alert when it does not take them, unless `force`.
async fn try_out(share: &ShareConfig, credentials: &Credentials, force: bool) -> Result<(), Failure> {
    let fault = match open_store_with(share, credentials).await {
        Ok(store) if force => {
            drop(store);
            return Ok(());
        }
        Ok(store) => trial::fault(&store, TRIAL).await,
        Err(failure) if failure.exit() == Exit::Key || !force => Some(failure),
        Err(_) => return Ok(()),
    };
    match fault {
        None => Ok(()),
        Some(failure) => {
            let kind = failure.exit() == Exit::Key;
            let failure = failure
                .because("They were tried on the share before anything was sealed; nothing was changed.");
            Err(match kind {
                true => failure,
                false => failure.next(
                    "where they cannot be tried from here, or may create below agents/ alone: the same command with --force",
                ),
            })
        }
    }
}

/// What the file, or standard input, holds, without the line's end.
fn read(from: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_CREDENTIALS_LEN + 2));
    if from == Path::new("-") {
        let most = MAX_CREDENTIALS_LEN as u64 + 2;
        std::io::stdin().lock().take(most).read_to_end(&mut secret).map_err(|error| {
            Failure::usage("--from -: standard input cannot be read").because(error.to_string())
        })?;
    } else {
        secret.extend_from_slice(&secret_file::read_bytes(from)?);
    }
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() {
        return Err(Failure::usage(format!("--from {}: there are no credentials in it", from.display()))
            .next("muster share credentials --forget takes those away that are kept"));
    }
    if secret.len() > MAX_CREDENTIALS_LEN {
        return Err(Failure::usage(format!(
            "--from {}: credentials of more than {MAX_CREDENTIALS_LEN} bytes",
            from.display()
        ))
        .because("They travel in one message of the bus.")
        .next("keep what is long in a file on each machine, and name the file in the credentials"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use muster_protocol::alert::Code;
    use muster_protocol::config::ShareConfig;
    use muster_share::credentials::Credentials;
    use muster_share::entropy::OsEntropy;
    use zeroize::Zeroizing;

    use super::try_out;
    use crate::exit::Exit;

    #[tokio::test]
    async fn credentials_that_cannot_be_those_of_the_share_are_refused() {
        // A port where nobody listens: what parses is tried there, and not taken.
        let share = ShareConfig::at("s3://backups/fleet?endpoint=http://127.77.0.1:1");
        let of = |text: &str| Credentials::new(Zeroizing::new(text.as_bytes().to_vec()), &mut OsEntropy);
        let (windows, keys) = (
            of("username = backup\npassword = sw0rdfish\n"),
            of("access_key_id = AKIA\nsecret_access_key = sw0rdfish\n"),
        );
        for force in [false, true] {
            let failure = try_out(&share, &windows, force).await.expect_err("another kind");
            assert_eq!(failure.exit(), Exit::Key, "{failure}");
            assert!(!failure.to_string().contains("sw0rdfish"), "{failure}");
        }
        let failure = try_out(&share, &keys, false).await.expect_err("nobody answers");
        assert_eq!((failure.exit(), failure.alert()), (Exit::Unreachable, Some(Code::Share01)), "{failure}");
        assert!(failure.to_string().contains("--force"), "{failure}");
        try_out(&share, &keys, true).await.expect("kept untried");
    }
}
