//! An entry of a slice as operators and scripts read it: a line as `ls -l` writes it, and JSON.
//!
//! What a name holds never reaches a terminal as it is: control characters are escaped.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use muster_protocol::ids::{ServiceName, SourceName, hex};
use muster_protocol::units::format_size;
use muster_share::entry::{Entry, Gap, Kind};
use serde::Serialize;

use crate::reading_back::path_text;

/// Widest owner that keeps the columns of a listing straight.
const OWNER: usize = 13;

/// `{"schema":"muster.entry/1", …}`: one entry of a source, one line.
#[derive(Debug, Serialize)]
pub(crate) struct EntryView<'a> {
    schema: &'static str,
    service: &'a str,
    source: &'a str,
    /// Within the source; escaped where it is no UTF-8.
    path: String,
    /// Its raw bytes in hexadecimal, only where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: Kind,
    /// Octal, such as `0644`.
    mode: String,
    uid: u32,
    gid: u32,
    user: Option<&'a str>,
    group: Option<&'a str>,
    size: u64,
    mtime: String,
    mtime_secs: i64,
    mtime_nanos: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<String>,
}

impl<'a> EntryView<'a> {
    /// The view of an entry of this source.
    pub(crate) fn new(service: &'a ServiceName, source: &'a SourceName, entry: &'a Entry) -> Self {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.escape_ascii().to_string(),
        };
        Self {
            schema: "muster.entry/1",
            service: service.as_str(),
            source: source.as_str(),
            path: text(&entry.path),
            path_hex: std::str::from_utf8(&entry.path).is_err().then(|| hex(&entry.path)),
            kind: entry.kind,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.as_deref(),
            group: entry.group.as_deref(),
            size: entry.size,
            mtime: modified(entry).map(|time| time.to_string()).unwrap_or_default(),
            mtime_secs: entry.mtime_secs,
            mtime_nanos: entry.mtime_nanos,
            target: entry.target.as_ref().map(|target| text(target)),
            hard_link: entry.hard_link.as_ref().map(|target| text(target)),
            device: entry.device,
            xattrs: entry.xattrs.iter().map(|(name, _)| text(name)).collect(),
            gap: entry.gap.map(gap_words),
        }
    }
}

/// The line of an entry, as `ls -l` writes them, under this name.
pub(crate) fn long_line(entry: &Entry, name: &str) -> String {
    let who = |name: &Option<String>, number: u32| {
        name.as_deref().map_or(number.to_string(), |name| path_text(name.as_bytes()))
    };
    let owner = format!("{} {}", who(&entry.user, entry.uid), who(&entry.group, entry.gid));
    let size = match (entry.kind, entry.device) {
        (_, Some((major, minor))) => format!("{major}, {minor}"),
        (Kind::File, None) if entry.hard_link.is_none() => format_size(entry.size),
        (
            Kind::File | Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice,
            None,
        ) => "-".to_owned(),
    };
    let time = modified(entry).map(|time| time.to_zoned(TimeZone::system()));
    let time = time.map_or("?".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string());
    let mut line = format!("{}  {owner:OWNER$}  {size:>9}  {time:16}  {name}", mode_text(entry));
    if let Some(target) = &entry.target {
        line.push_str(&format!(" -> {}", path_text(target)));
    }
    if let Some(target) = &entry.hard_link {
        line.push_str(&format!(" = {}", path_text(target)));
    }
    if let Some(gap) = entry.gap {
        line.push_str(&format!("  [gap: {}]", gap_words(gap)));
    }
    line
}

/// What is missing of an entry.
pub(crate) fn gap_words(gap: Gap) -> String {
    let why = |errno: i32| std::io::Error::from_raw_os_error(errno);
    match gap {
        Gap::Changed => "changed while it was captured".to_owned(),
        Gap::Unreadable(errno) => format!("not captured: {}", why(errno)),
        Gap::Vanished => "gone when it was to be captured".to_owned(),
        Gap::Skipped => "its kind is not captured".to_owned(),
        Gap::Attributes(errno) => format!("extended attributes not captured: {}", why(errno)),
    }
}

/// Kind and permissions in ten characters, as `ls -l` has them.
fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, with, without) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// When it was changed last, where a calendar has that time.
pub(crate) fn modified(entry: &Entry) -> Option<Timestamp> {
    Timestamp::new(entry.mtime_secs, i32::try_from(entry.mtime_nanos).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{EntryView, long_line};
    use muster_share::entry::{Entry, Gap, Kind};

    #[test]
    fn lines_read_as_those_of_ls() {
        let mut entry = Entry::new(b"x".to_vec(), Kind::File, 0o4755);
        (entry.size, entry.user) = (2048, Some("root".to_owned()));
        assert!(long_line(&entry, "x").starts_with("-rwsr-xr-x  root 0             2 KiB  1970-01-0"));
        entry.gap = Some(Gap::Unreadable(13));
        assert!(
            long_line(&entry, "x").ends_with("  x  [gap: not captured: Permission denied (os error 13)]")
        );
        let mut link = Entry::new(b"l".to_vec(), Kind::Symlink, 0o1777);
        link.target = Some(b"\x1b[2J".to_vec().into());
        let line = long_line(&link, "l");
        assert!(line.starts_with("lrwxrwxrwt") && line.ends_with("l -> \\x1b[2J"), "{line}");
    }

    #[test]
    fn json_names_raw_bytes_where_text_would_lie() {
        let (service, source) = ("dns".parse().expect("a name"), "files".parse().expect("a name"));
        let entry = Entry::new(b"a\xff".to_vec(), Kind::Directory, 0o750);
        let view = serde_json::to_value(EntryView::new(&service, &source, &entry)).expect("JSON");
        assert_eq!(view["schema"], "muster.entry/1");
        assert_eq!((&view["path"], &view["path_hex"]), (&"a\\xff".into(), &"61ff".into()));
        assert_eq!((&view["kind"], &view["mode"]), (&"directory".into(), &"0750".into()));
        assert!(view.get("gap").is_none());
    }
}
