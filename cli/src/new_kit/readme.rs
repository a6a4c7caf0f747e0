//! The kit's README.md: what to do on the worst day, with Muster and without it.

use super::Facts;

/// README.md of the kit.
pub(super) fn readme(facts: &Facts) -> String {
    let Facts { fleet, created, .. } = facts;
    let recipients: Vec<_> = facts.recipients.iter().map(|recipient| format!("- `{recipient}`")).collect();
    let services: Vec<_> = facts.services.iter().map(|service| format!("`{service}`")).collect();
    format!(
        "# Recovery kit of fleet {name}\n\
         \n\
         Made {created}. Print `kit.html`; keep `recovery.key` offline, apart from the fleet and from the root key.\n\
         Whoever has `recovery.key` and the share reads every backup. Without one of the keys below, nobody does.\n\
         \n\
         | | |\n|---|---|\n\
         | fleet | {name} |\n\
         | fleet id | `{id}` |\n\
         | root public key | `{root}` (also in `root.pub`) |\n\
         | share | `{share}` |\n\
         | services then | {services} |\n\
         \n\
         Backups open with any one of these keys; the first is `recovery.key`:\n\
         \n{recipients}\n\
         \n\
         ## Recover\n\
         \n\
         On any machine with the share and this kit; no NATS, no coordinator, no network is needed:\n\
         \n\
         ```text\n\
         muster verify --share SHARE --kit KIT                 is everything there and whole?\n\
         muster recover --share SHARE --kit KIT --into DIR     the newest committed round, all services\n\
         ```\n\
         \n\
         `--round N` takes another round, `--service S` one service. What comes out lies in `DIR/<service>/<source>/`.\n\
         If you noted a log head (`muster show` prints it), give it as `--expect-head N:HASH`: an older copy of the share\n\
         is refused then.\n\
         \n\
         ## Without Muster\n\
         \n\
         `emergency.py` of this kit recovers from the share, given as a path, on any Linux with Python 3.9 and the\n\
         programs `age`, `zstd` and `openssl` 3. It checks every signature and hash from the root key on:\n\
         \n\
         ```text\n\
         python3 KIT/emergency.py --share SHARE --kit KIT --list         what the newest round holds; writes nothing\n\
         python3 KIT/emergency.py --share SHARE --kit KIT --into DIR     recovers it; as root with owners and devices\n\
         ```\n\
         \n\
         `--service`, `--round`, `--path` and `--expect-head` choose as with `muster recover`; what is damaged is named and\n\
         left out. By hand, stock tools read the share, too: `sha256sum`, `age`, `zstd`, `openssl`.\n\
         \n\
         - Every object outside `log/` and `FORMAT` is named by its SHA-256: `sha256sum FILE` must give the file's name.\n\
         - A pack is an age file of zstd frames: `age -d -i recovery.key FILE.age | zstd -d` gives the plain bytes of its\n  \
           chunks, one after the other. Small files may be read in it as they are; which chunk belongs to which file\n  \
           stands in the slice's index. `docs/format.md` of Muster's source describes every object byte by byte.\n\
         - Log records, receipts and manifests end with 64 bytes of Ed25519 signature over all bytes before them:\n  \
           `head -c -64` and `tail -c 64` part them, `openssl pkeyutl -verify -rawin -pubin -inkey root.pub -in TEXT\n  \
           -sigfile SIGNATURE` checks record 0 with the root key.\n",
        name = fleet.name,
        id = fleet.id,
        root = fleet.root,
        share = facts.share,
        services = services.join(", "),
        recipients = recipients.join("\n"),
    )
}
