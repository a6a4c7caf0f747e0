//! A pack read without Muster: `age -d -i KEY PACK | zstd -d`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::exit::Exit;
use crate::failure::Failure;

/// Longest that both programs together may take.
const LIMIT: Duration = Duration::from_secs(30);
/// More than a pack may hold.
const PLAIN_BYTES_MAX: u64 = 1 << 30;

/// Those of the two programs that are not installed here.
pub(super) fn missing() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    ["age", "zstd"].into_iter().filter(|name| !there(name)).collect()
}

/// What the two programs make of the pack.
pub(super) async fn read(key: &Path, pack: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Failed, format!("age and zstd cannot read {}", pack.display())).because(why)
    };
    let both = async {
        let mut age = Command::new("age");
        age.arg("-d").arg("-i").arg(key).arg(pack);
        let mut age = age
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let sealed = age.stdout.take().expect("it was asked for");
        let between: Stdio = sealed.try_into()?;
        let mut zstd = Command::new("zstd");
        zstd.args(["-d", "-c", "-q"]);
        let mut zstd =
            zstd.stdin(between).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let plain = zstd.stdout.take().expect("it was asked for");
        let mut bytes = Vec::new();
        plain.take(PLAIN_BYTES_MAX).read_to_end(&mut bytes).await?;
        let (age, zstd) = (age.wait_with_output().await?, zstd.wait_with_output().await?);
        std::io::Result::Ok((bytes, age, zstd))
    };
    let (bytes, age, zstd) = tokio::time::timeout(LIMIT, both)
        .await
        .map_err(|_| failed(format!("they did not end within {} s", LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !age.status.success() || !zstd.status.success() {
        let said = [age.stderr, zstd.stderr].concat();
        return Err(failed(String::from_utf8_lossy(&said).trim().to_owned()));
    }
    Ok(bytes)
}
