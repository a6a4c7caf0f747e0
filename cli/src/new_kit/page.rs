//! The kit's pages as HTML that any browser prints: `kit.html` of what may be public, and the private key on a page of its
//! own, which only an explicit request makes.
//!
//! Self-contained: no script, no font, no address is fetched. Must never put anything private on the first.

use muster_protocol::age::Identity;
use muster_protocol::log::Head;
use zeroize::Zeroizing;

use super::{Facts, qr};

const STYLE: &str = "\
@page { size: A4; margin: 12mm }
body { font: 10pt/1.35 sans-serif; color: #000; background: #fff; max-width: 178mm; margin: 0 auto; padding: 2mm }
h1 { font-size: 16pt; margin: 0 0 1mm } h2 { font-size: 12pt; margin: 3mm 0 1mm } p { margin: 1mm 0 }
code, pre { font: 9pt/1.35 monospace; overflow-wrap: anywhere; white-space: pre-wrap }
pre { border-left: 1mm solid #000; padding-left: 3mm; margin: 1mm 0 }
.facts { display: grid; grid-template-columns: 25mm 1fr; gap: 1mm 4mm; align-items: center; break-inside: avoid }
.facts svg { width: 25mm; height: 25mm } .facts b { display: block }
.warning { border: 1mm solid #000; padding: 3mm; font-size: 12pt } .private svg { width: 70mm; height: 70mm }
ol { padding-left: 6mm; margin: 1mm 0 } li { margin: 1mm 0 }";

/// The page to be printed.
pub(super) fn public(facts: &Facts, head: &Head) -> String {
    let Facts { fleet, share, services, recipients, created } = facts;
    let name = &fleet.name;
    let root = fleet.root.to_string();
    let row = |what: &str, why: &str, text: &str| {
        format!(
            "{}<div><b>{what}</b><code>{}</code><br>{why}</div>\n",
            qr::svg(text, what).as_str(),
            escape(text)
        )
    };
    let rows = [
        row(
            "Root public key",
            "Everything is believed by this key. Compare it before you trust a share.",
            &root,
        ),
        row("Fleet id", "The fleet that this kit is of.", &fleet.id.to_string()),
        row("Share", "Where the backups were when this page was made.", share),
        row(
            "Log head when this page was made",
            "A share that does not hold it is an older copy. Write newer heads beside it.",
            &head.to_string(),
        ),
    ];
    let keys: Vec<_> =
        recipients.iter().map(|recipient| format!("<li><code>{recipient}</code></li>")).collect();
    format!(
        "{}<h1>Recovery kit of fleet {name}</h1>\n\
         <p>Made {}. Services then: {}. Nothing on this page is secret; <code>recovery.key</code> of the kit is: whoever has\n\
         it and the share reads every backup. Keep kit and root key apart, and neither in the fleet.</p>\n\
         <div class=\"facts\">\n{}</div>\n\
         <h2>Opens with any one of</h2>\n<ol>{}</ol>\n\
         <p>The first is <code>recovery.key</code> of this kit.</p>\n\
         <h2>On the worst day</h2>\n\
         <ol>\n\
         <li>Stop what is left of coordinators and agents. Mount the share read-only, here as <code>SHARE</code>; this kit is\n\
         <code>KIT</code>.</li>\n\
         <li>Is everything there, and signed by the root key above?\n\
         <pre>muster verify --share SHARE --kit KIT --expect-head {head}</pre></li>\n\
         <li>Recover the newest committed round; no network, NATS or coordinator is needed:\n\
         <pre>muster recover --share SHARE --kit KIT --into DIR --expect-head {head}</pre></li>\n\
         <li>Bring the services back in the order in which they need each other: <code>docs/recovery.md</code>, step 4.</li>\n\
         </ol>\n\
         <h2>Without Muster</h2>\n\
         <p>Linux, Python 3.9, <code>age</code>, <code>zstd</code> and <code>openssl</code> 3 are enough:</p>\n\
         <pre>python3 KIT/emergency.py --share SHARE --kit KIT --list\npython3 KIT/emergency.py --share SHARE --kit KIT --into DIR</pre>\n\
         </body></html>\n",
        begin(&format!("Recovery kit of fleet {name}")),
        escape(created),
        escape(&services.join(", ")),
        rows.concat(),
        keys.concat(),
        head = head,
    )
}

/// The private recovery key on a page of its own.
pub(super) fn private(facts: &Facts, recovery: &Identity) -> Zeroizing<String> {
    let name = &facts.fleet.name;
    let text = recovery.to_file_text(&facts.created);
    // The file's one line that is no comment.
    let key = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let code = qr::svg(key, "Private recovery key");
    let mut page = Zeroizing::new(String::with_capacity(4096 + code.len()));
    page.push_str(&begin(&format!("PRIVATE recovery key of fleet {name}")));
    page.push_str(&format!(
        "<h1>PRIVATE recovery key of fleet {name}</h1>\n\
         <p class=\"warning\"><b>Whoever reads this page and has the share reads every backup.</b> Print it on a printer that\n\
         keeps nothing, put it into a safe, away from the root key, and then delete <code>private-key.html</code>.\n\
         Do not photograph it, mail it or store it.</p>\n<p>Opens <code>{}</code>, made {}.</p>\n<div class=\"private\">\n",
        recovery.recipient(),
        escape(&facts.created)
    ));
    page.push_str(&code);
    page.push_str("\n<pre>");
    page.push_str(key);
    page.push_str(
        "</pre>\n</div>\n<p>To use it: write the line above, without a blank, into a file <code>recovery.key</code> with mode\n\
         0600, beside a copy of <code>root.pub</code>. That folder is a kit.</p>\n</body></html>\n",
    );
    page
}

fn begin(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\n<style>\n{STYLE}\n</style></head><body>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{private, public};
    use crate::new_kit::{Facts, qr};
    use muster_protocol::age::Identity;
    use muster_protocol::config::FleetConfig;
    use muster_protocol::ids::{FleetId, KeyId, ObjectId};
    use muster_protocol::log::Head;
    use muster_share::entropy::OsEntropy;

    fn facts(recovery: &Identity) -> Facts {
        Facts {
            fleet: FleetConfig {
                name: "prod".parse().expect("a name"),
                id: FleetId::from_bytes([7; 32]),
                root: KeyId::from_bytes([9; 32]),
            },
            share: "/srv/<share> & \"more\"".to_owned(),
            services: vec!["dns".to_owned()],
            recipients: vec![recovery.recipient()],
            created: "2026-11-22T03:00:00Z".to_owned(),
        }
    }

    #[test]
    fn the_codes_of_the_page_read_what_stands_beside_them_and_nothing_private() {
        let recovery = Identity::generate(&mut OsEntropy);
        let facts = facts(&recovery);
        let head = Head { number: 4833, hash: ObjectId::of(b"head") };
        let page = public(&facts, &head);
        let want =
            [facts.fleet.root.to_string(), facts.fleet.id.to_string(), facts.share.clone(), head.to_string()];
        assert_eq!(qr::read_all(&page), want);
        assert!(!page.contains("AGE-SECRET-KEY") && !page.contains("<share>"), "{page}");
        assert!(page.contains(&recovery.recipient().to_string()));
        for fetched in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(fetched), "it fetches by {fetched}");
        }
    }

    #[test]
    fn the_private_page_holds_the_key_as_code_and_text() {
        let recovery = Identity::generate(&mut OsEntropy);
        let page = private(&facts(&recovery), &recovery);
        let read = qr::read_all(&page);
        let [key] = read.as_slice() else { panic!("one code, not {}", read.len()) };
        assert_eq!(Identity::parse(key).expect("an identity").recipient(), recovery.recipient());
        assert!(page.contains(&format!("<pre>{key}</pre>")) && page.contains("class=\"warning\""));
    }
}
