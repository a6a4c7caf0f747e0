//! What `init` was asked for, checked in full. Looks at the file system and the share, and writes nothing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use muster_agent::source::config::{SourceConfig, SourceTable, parse_spec};
use muster_protocol::age::Recipient;
use muster_protocol::config::ShareConfig;
use muster_protocol::ids::{FleetName, MemberName, ServiceName};
use muster_share::layout::ObjectPath;
use muster_share::store::address::{Address, is_path};
use muster_share::store::{self, OpenStoreError, StoreError};

use crate::args::Init;
use crate::bus_users::{Place, Server};
use crate::failure::Failure;
use crate::fleet::share_at;

/// The port that NATS servers usually have.
const USUAL_PORT: u16 = 4222;

/// A service with its sources.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: ServiceName,
    pub(super) sources: Vec<SourceTable>,
}

/// A checked request.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fleet: FleetName,
    pub(super) dir: PathBuf,
    pub(super) kit: PathBuf,
    pub(super) root: PathBuf,
    /// The share's address.
    pub(super) share: ShareConfig,
    /// The share's folder, if it is one.
    pub(super) share_folder: Option<PathBuf>,
    pub(super) recipients: Vec<Recipient>,
    /// Whether a page with the private recovery key is wanted.
    pub(super) print_private: bool,
    pub(super) coordinators: Vec<MemberName>,
    pub(super) services: Vec<Service>,
    /// Where the NATS server listens.
    pub(super) server: Server,
    /// Where the agents' files go.
    pub(super) place: Place,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// Checks everything that can be checked without writing.
    pub(super) async fn check(args: Init) -> Result<Self, Failure> {
        let Some(kit) = &args.kit else {
            return Err(Failure::usage("--kit is missing: where should the private recovery key go?")
                .because(
                    "The kit must lie outside the fleet's folder, best on a medium that you can take away.",
                )
                .next("add --kit /media/usb/muster-kit"));
        };
        let services = services(&args.service)?;
        let recipients = recipients(&args.recipient)?;
        let dir = real(&args.dir)?;
        let kit = real(kit)?;
        let root = match &args.root {
            Some(root) => real(root)?,
            None => beside(&kit)?,
        };
        let share = share_at(&args.share)?;
        let share_folder = share_folder(&share.url).map(|folder| real(&folder)).transpose()?;
        apart(&[("DIR", &dir), ("--kit", &kit), ("--root", &root)], share_folder.as_deref())?;
        if let Some(share) = &share_folder {
            no_source_holds(share, &services)?;
        }
        for (option, folder) in [("DIR", &dir), ("--kit", &kit), ("--root", &root)] {
            empty(option, folder)?;
        }
        no_fleet_yet(&share, share_folder.as_deref()).await?;
        let place = if args.listen.is_some() { Place::Apart } else { Place::Here };
        let warnings = match place {
            Place::Here => missing_sources(&services),
            // What this machine has of the sources says nothing of the others.
            Place::Apart => needed_elsewhere(&share, share_folder.as_deref()),
        };
        let server = match args.listen {
            Some(server) => server,
            None => Server::here(free_port()?),
        };
        let coordinators = (1..=args.coordinators).map(coordinator_name).collect();
        Ok(Self {
            fleet: args.fleet,
            dir,
            kit,
            root,
            share,
            share_folder,
            recipients,
            print_private: args.print_private,
            coordinators,
            services,
            server,
            place,
            warnings,
        })
    }

    /// The address of the fleet's NATS server.
    pub(super) fn nats_url(&self) -> String {
        self.server.url()
    }
}

fn coordinator_name(number: u8) -> MemberName {
    let name = if number == 1 { "coordinator".to_owned() } else { format!("coordinator-{number}") };
    name.parse().expect("a fixed name with a small number is a name")
}

/// `NAME=KIND:ARG …`, grouped by name in the order given.
fn services(specs: &[String]) -> Result<Vec<Service>, Failure> {
    let mut services: Vec<Service> = Vec::new();
    for spec in specs {
        let wrong = |why: String| {
            Failure::usage(format!("--service {spec}: {why}"))
                .next("write NAME=KIND:ARG, such as dns=files:/etc/bind")
        };
        let (name, source) = spec.split_once('=').ok_or_else(|| wrong("lacks its source".to_owned()))?;
        let name: ServiceName = name.parse().map_err(|error| wrong(format!("{error}")))?;
        let source = from_here(parse_spec(source).map_err(|error| wrong(error.to_string()))?)?;
        match services.iter_mut().find(|service| service.name == name) {
            Some(service) => service.sources.push(source),
            None => services.push(Service { name, sources: vec![source] }),
        }
    }
    for service in &services {
        SourceConfig::resolve(&service.sources, Path::new("/")).map_err(|error| {
            Failure::usage(format!("--service {}: {error}", service.name)).caused_by(&error)
        })?;
    }
    Ok(services)
}

/// A relative path on the command line starts here, not where the configuration will lie.
pub(crate) fn from_here(mut source: SourceTable) -> Result<SourceTable, Failure> {
    match &mut source {
        SourceTable::Files(table) => table.path = absolute(&table.path)?,
        SourceTable::Sqlite(table) => table.path = absolute(&table.path)?,
        SourceTable::Command(table) => {
            if let Some(program) = table.argv.first_mut().filter(|program| program.contains('/')) {
                *program = absolute(Path::new(program))?.display().to_string();
            }
        }
    }
    Ok(source)
}

/// What the other machines of a fleet need of the share, and do not get with the folder that is copied to them.
fn needed_elsewhere(share: &ShareConfig, folder: Option<&Path>) -> Vec<String> {
    let mounted = folder.map(|folder| {
        format!(
            "the share is a folder: every machine of the fleet must have it mounted as {}",
            folder.display()
        )
    });
    let file = |what: &str, file: &Path| {
        let named = !file.as_os_str().is_empty();
        named.then(|| format!("{what} must lie on every machine of the fleet as {}", file.display()))
    };
    let credentials =
        file("the share's credentials (mode 0600, best an account for each)", &share.credentials);
    mounted.into_iter().chain(credentials).chain(file("the share's certificates", &share.ca)).collect()
}

/// A path that is not there yet is no error: the service may live on another machine, or be about to start.
fn missing_sources(services: &[Service]) -> Vec<String> {
    services.iter().flat_map(|service| missing(service.name.as_str(), &service.sources)).collect()
}

/// Sources of a service whose path is not there now.
pub(crate) fn missing(service: &str, sources: &[SourceTable]) -> Vec<String> {
    let mut warnings = Vec::new();
    for source in sources {
        let path = match source {
            SourceTable::Files(table) => table.path.clone(),
            SourceTable::Sqlite(table) => table.path.clone(),
            SourceTable::Command(table) => match table.argv.first().filter(|program| program.contains('/')) {
                Some(program) => PathBuf::from(program),
                None => continue,
            },
        };
        if !path.exists() {
            warnings.push(format!("{service}: {} is not there now", path.display()));
        }
    }
    warnings
}

/// Recovery keys from the command line.
pub(crate) fn recipients(texts: &[String]) -> Result<Vec<Recipient>, Failure> {
    let mut recipients: Vec<Recipient> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        // An identity given by mistake is secret: the error must not repeat the text.
        let number = index + 1;
        let recipient = text.parse().map_err(|error: muster_protocol::age::KeyError| {
            Failure::usage(format!("--recipient number {number} cannot be used"))
                .because(error.to_string())
                .next("muster key generate --out PATH makes a key and prints its recipient")
        })?;
        if recipients.contains(&recipient) {
            return Err(Failure::usage(format!("--recipient number {number} was given before")));
        }
        recipients.push(recipient);
    }
    Ok(recipients)
}

/// `KIT-root`, beside the kit.
fn beside(kit: &Path) -> Result<PathBuf, Failure> {
    let name = kit.file_name().ok_or_else(|| Failure::usage("--kit / is no folder of its own"))?;
    let mut name = name.to_owned();
    name.push("-root");
    Ok(kit.with_file_name(name))
}

/// Nothing may lie in anything else: what is taken away must not be needed, and what is copied must hold no key.
pub(crate) fn apart(places: &[(&str, &Path)], share: Option<&Path>) -> Result<(), Failure> {
    let mut places = places.to_vec();
    places.extend(share.map(|share| ("--share", share)));
    for (index, (one, first)) in places.iter().enumerate() {
        for (two, second) in &places[index + 1..] {
            let (inner, outer, path) = if second.starts_with(first) {
                (two, one, second)
            } else if first.starts_with(second) {
                (one, two, first)
            } else {
                continue;
            };
            return Err(Failure::usage(format!("{inner} ({}) lies within {outer}", path.display()))
                .because("Folder, kit, root and share must lie apart: keys must be nowhere where backups or the fleet are.")
                .next(format!("give {inner} a path outside {outer}")));
        }
    }
    Ok(())
}

/// A source that holds the share would back its own backups up, more of them each round. One on another file system
/// is passed over by the source.
fn no_source_holds(share: &Path, services: &[Service]) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| {
        path.ancestors().find_map(|part| std::fs::metadata(part).ok()).map(|metadata| metadata.dev())
    };
    for service in services {
        for source in &service.sources {
            let SourceTable::Files(table) = source else { continue };
            let path = std::fs::canonicalize(&table.path).unwrap_or_else(|_| table.path.clone());
            let within = share.starts_with(&path) && device(share) == device(&path);
            if within || path.starts_with(share) {
                let (service, path) = (&service.name, path.display());
                return Err(Failure::usage(format!(
                    "--service {service}: {path} and the share lie in each other"
                ))
                .because("Each round would back up the backups before it.")
                .next("give the share a folder outside every source"));
            }
        }
    }
    Ok(())
}

/// The folder is absent or empty, and can be made.
pub(crate) fn empty(option: &str, folder: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!("{option}: {} is not empty", folder.display()))
                .next("give a folder that is absent or empty")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match folder.parent() {
            Some(parent) if !parent.exists() => {
                Err(Failure::usage(format!("{option}: {} is not there to make it in", parent.display()))
                    .because("If it is a medium that you can take away, it may not be mounted.")
                    .next(format!("mkdir -p {}", parent.display())))
            }
            Some(_) | None => Ok(()),
        },
        Err(error) => {
            Err(Failure::usage(format!("{option}: {} cannot be used as a folder", folder.display()))
                .because(error.to_string())
                .next("give a folder that is absent or empty"))
        }
    }
}

async fn no_fleet_yet(share: &ShareConfig, folder: Option<&Path>) -> Result<(), Failure> {
    if let Some(folder) = folder.filter(|folder| !folder.exists()) {
        return match folder.parent() {
            Some(parent) if parent.is_dir() => Ok(()),
            Some(_) | None => Err(Failure::new(
                crate::exit::Exit::Unreachable,
                format!("SHARE-01: --share {}: the folder that it should be made in is not there", share.url),
            )
            .next("mount the share, or make the folder")),
        };
    }
    let store = match store::open(share).await {
        Ok(store) => store,
        Err(OpenStoreError::Address(error)) => return Err(Failure::usage(format!("--share: {error}"))),
        // A folder that is made when the fleet is founded.
        Err(OpenStoreError::Store(StoreError::InvalidPath { .. }))
            if matches!(Address::parse(&share.url), Ok(Address::Smb(_))) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    match store.head(&ObjectPath::Format).await {
        Err(StoreError::NotFound { .. }) => Ok(()),
        Ok(_) => Err(Failure::usage(format!("--share {} holds a fleet already", share.url))
            .next("give another folder, or go on with the folder of the fleet that uses this share")),
        Err(error) => Err(error.into()),
    }
}

/// The folder that an address names, if it is one.
pub(crate) fn share_folder(url: &str) -> Option<PathBuf> {
    match Address::parse(url) {
        Ok(address) => address.folder().map(Path::to_owned),
        // A relative path, which starts at the current folder.
        Err(_) => (!url.contains("://") && is_path(url)).then(|| PathBuf::from(url)),
    }
}

pub(crate) fn free_port() -> Result<u16, Failure> {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    free(USUAL_PORT).or_else(|_| free(0)).map(|address| address.port()).map_err(|error| {
        Failure::new(crate::exit::Exit::Failed, "no port of 127.0.0.1 is free for NATS")
            .because(error.to_string())
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::usage(format!("{} is no usable path", path.display())).because(error.to_string())
    })
}

/// The path with links and `..` resolved as far as it exists, so that one place has one name.
pub(crate) fn real(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = absolute(path)?;
    let mut missing = Vec::new();
    let mut there = absolute.as_path();
    loop {
        match there.canonicalize() {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path, name| path.join(name))),
            Err(_) => match (there.parent(), there.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    there = parent;
                }
                _ => {
                    return Err(Failure::usage(format!("{} is no usable path", path.display()))
                        .next("write it without `..`"));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{no_source_holds, services};
    use std::path::Path;

    #[test]
    fn services_are_grouped_and_named_sources_are_absolute() {
        let specs = ["a=files:/x", "b=sqlite:rel.db", "a=command:[\"date\"]"].map(str::to_owned);
        let services = services(&specs).expect("valid");
        assert_eq!(services.len(), 2);
        assert_eq!(services[0].sources.len(), 2);
        assert_eq!(services[1].name.as_str(), "b");
        assert!(format!("{:?}", services[1].sources).contains("\"/"));
    }

    #[test]
    fn specs_that_cannot_be_are_named() {
        for (bad, part) in [
            ("files:/x", "lacks its source"),
            ("A=files:/x", "service name \"A\""),
            ("a=/x", "no kind"),
            ("a=zfs:/x", "no source kind \"zfs\""),
            ("a=files:", "lacks its path"),
        ] {
            let failure = services(&[bad.to_owned()]).expect_err(bad).to_string();
            assert!(failure.contains(&format!("--service {bad}")) && failure.contains(part), "{failure}");
        }
        let twice = ["a=files:/x", "a=files:/x"].map(str::to_owned);
        assert!(services(&twice).expect_err("twice").to_string().contains("reads the same"));
    }

    #[test]
    fn a_source_never_holds_the_share() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("there");
        for (source, share, fine) in
            [("data", "data/share", false), ("share/x", "share", false), ("data", "share", true)]
        {
            let spec = format!("a=files:{}", path.join(source).display());
            let services = services(&[spec]).expect("valid");
            assert_eq!(no_source_holds(&path.join(share), &services).is_ok(), fine, "{source} {share}");
        }
    }

    #[test]
    fn places_must_lie_apart() {
        let apart = |dir: &str, kit: &str, root: &str, share: &str| {
            let places =
                [("DIR", dir), ("--kit", kit), ("--root", root)].map(|(name, path)| (name, Path::new(path)));
            super::apart(&places, Some(Path::new(share)))
        };
        let ok = apart("/f", "/k", "/k-root", "/s");
        assert!(ok.is_ok());
        for (dir, kit, root, share, inner) in [
            ("/f", "/f/kit", "/r", "/s", "--kit (/f/kit) lies within DIR"),
            ("/f", "/k", "/s/r", "/s", "--root (/s/r) lies within --share"),
            ("/f", "/k", "/k", "/s", "--root (/k) lies within --kit"),
            ("/s/f", "/k", "/r", "/s", "DIR (/s/f) lies within --share"),
            ("/f", "/k", "/r", "/f/s", "--share (/f/s) lies within DIR"),
        ] {
            let failure = apart(dir, kit, root, share);
            let failure = failure.expect_err(inner).to_string();
            assert!(failure.contains(inner), "{failure}");
        }
    }
}
