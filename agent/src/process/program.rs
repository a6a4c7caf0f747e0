//! Finding a program as execvp(3) would.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Where programs are looked up when the agent itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where programs without a slash are looked up.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

/// The program's file.
pub(crate) fn locate(program: &str) -> io::Result<PathBuf> {
    let executable =
        |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    if program.contains('/') {
        let path = PathBuf::from(program);
        path.metadata()?;
        return if executable(&path) { Ok(path) } else { Err(io::ErrorKind::PermissionDenied.into()) };
    }
    std::env::split_paths(&search_path())
        .map(|folder| folder.join(program))
        .find(|path| executable(path))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}
