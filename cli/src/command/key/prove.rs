//! `muster key prove`: shows that an offline key opens the newest round. The share is only read, and the key is used in this
//! process alone: nothing of it goes anywhere. That it was shown is noted beside the operator's configuration.
//!
//! For every slice of the round the index is opened whole, and of its newest pack the header is unwrapped, its MAC and
//! context checked, and the first frame decrypted and compared with the names of its chunks.

use std::sync::Arc;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::causes::causes;
use muster_protocol::document::Receipt;
use muster_protocol::ids::ObjectId;
use muster_protocol::log::{Pin, RoundState, State};
use muster_share::keys::Keyring;
use muster_share::layout::ObjectPath;
use muster_share::pack::{PackReader, Unlock};
use muster_share::store::Store;
use muster_share::verify::chain::{
    MAX_PACK_LEN, WrongKey, context_of, packs_by_number, read_index, read_manifest, read_pack_lists,
    read_receipt, short_recipient,
};
use muster_share::verify::{Damage, Fault, RoundSelector, Trouble, read_ledger};
use serde::Serialize;

use crate::args::Prove;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::fleet::{hold_to, open_store, operator};
use crate::kit::{Kit, wrong_key};
use crate::looking;
use crate::proof::{self, Proof};
use crate::reading_back::{DamageView, damage_line, ledger_failure, select_failure};
use crate::screen;

/// `{"schema":"muster.key-prove/1", …}`
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    fleet: Option<String>,
    round: String,
    number: u64,
    /// The public halves of the kit's keys that open the round.
    opens_with: Vec<String>,
    proven: bool,
    /// Whether the proof was noted where `status` finds it.
    noted: bool,
    services: Vec<ServiceLine>,
    damaged: Vec<DamageView>,
}

#[derive(Debug, Serialize)]
struct ServiceLine {
    service: String,
    /// `opened`, `damaged`
    state: &'static str,
    pack: Option<String>,
}

/// Proves.
pub(super) async fn run(args: Prove) -> Outcome {
    let kit = Kit::open(&args.kit)?;
    let (share, pin) = looking::place(&args.reading, &kit)?;
    let store = open_store(&share).await?;
    hold_to(&store, Pin { head: None, ..pin }, &args.reading.expect).await?;
    let ledger = read_ledger(&store, pin, false).await.map_err(ledger_failure)?;
    let state = &ledger.state;
    let round = RoundSelector::Latest.select(state).map_err(|error| select_failure(&error))?;
    let number = round.open.number;
    let manifest = read_manifest(store.as_ref(), state, round).await.map_err(trouble)?;
    let keyset = state.keysets.get(&manifest.keyset);
    let recipients: Vec<_> =
        keyset.into_iter().flat_map(|keyset| &keyset.keys).map(|key| key.recipient.clone()).collect();
    let opening: Vec<_> = kit.keys.iter().filter(|key| recipients.contains(&key.recipient())).collect();
    if let Some(wrong) = WrongKey::of(state, number, manifest.keyset, &kit.keys) {
        return Err(wrong_key(&wrong, &kit.keys));
    }
    let mut services = Vec::new();
    let mut damaged = ledger.damaged.clone();
    for slice in &manifest.slices {
        let service = slice.service.to_string();
        let proven = match read_receipt(store.as_ref(), state, round, slice).await {
            Ok(receipt) => prove(&store, state, &receipt, &kit.keys).await,
            Err(error) => Err(error),
        };
        services.push(match proven {
            Ok(pack) => ServiceLine { service, state: "opened", pack: pack.map(|id| id.to_string()) },
            Err(Trouble::Damaged(damage)) => {
                damaged.push(damage);
                ServiceLine { service, state: "damaged", pack: None }
            }
            Err(Trouble::Store(error)) => return Err(error.into()),
        });
    }
    let proven = damaged.is_empty();
    let opens_with: Vec<_> = opening.iter().map(|key| key.recipient()).collect();
    let noted = proven && args.reading.share.is_none() && {
        let proof = |recipient: &Recipient| Proof {
            recipient: recipient.clone(),
            round: round.open.round,
            number,
            at: screen::now(),
        };
        let proofs: Vec<_> = opens_with.iter().map(proof).collect();
        proof::note(&operator(args.reading.config.as_deref())?, &proofs)?
    };
    if args.reading.json {
        screen::json(&View {
            schema: "muster.key-prove/1",
            fleet: state.name.as_ref().map(ToString::to_string),
            round: round.open.round.to_string(),
            number,
            opens_with: opens_with.iter().map(ToString::to_string).collect(),
            proven,
            noted,
            services,
            damaged: damaged.iter().map(DamageView::new).collect(),
        });
    } else {
        tell(state, round, &opens_with.iter().map(short_recipient).collect::<Vec<_>>(), &services, &damaged);
        if noted {
            screen::line(
                "the proof is noted beside the operator's configuration: `muster status` counts on it",
            );
        }
    }
    Ok(if proven { Exit::Done } else { Exit::Damaged })
}

fn tell(state: &State, round: &RoundState, keys: &[String], services: &[ServiceLine], damaged: &[Damage]) {
    let fleet = state.name.as_ref().map_or("unknown fleet".to_owned(), ToString::to_string);
    let committed = round.commit().map(|commit| screen::time(commit.at)).unwrap_or_default();
    for damage in damaged {
        screen::line(damage_line(damage));
    }
    screen::line(format!(
        "round {} of fleet {fleet}, {committed}: opens with {}",
        round.open.number,
        keys.join(", ")
    ));
    let opened = services.iter().filter(|line| line.state == "opened").count();
    screen::line(format!(
        "{opened} of {} opened: index whole; of the newest pack header, MAC and first frame",
        screen::plural(services.len(), "slice")
    ));
    screen::line("the private key was used on this machine alone; the share was only read");
    if !damaged.is_empty() {
        screen::line("→ muster verify --kit PATH   names everything that is damaged");
    }
}

/// Opens what a slice is read from. Returns the pack, if the slice has any.
async fn prove(
    store: &Arc<dyn Store>,
    state: &State,
    receipt: &Receipt,
    keys: &Arc<Vec<Identity>>,
) -> Result<Option<ObjectId>, Trouble> {
    let keyring = Keyring::Recovery(Arc::clone(keys));
    let index = read_index(store.as_ref(), state, receipt, &keyring).await?;
    let mut lists = Vec::new();
    for list in read_pack_lists(store.as_ref(), receipt).await.map_err(Trouble::Store)? {
        lists.push(list?);
    }
    let packs = packs_by_number(&lists);
    let Some((_, pack)) = packs.last_key_value() else { return Ok(None) };
    let path = ObjectPath::Pack { service: receipt.service.clone(), id: pack.id };
    let damaged = |fault: Fault| Trouble::Damaged(Damage::new(path.clone(), fault));
    let bytes = match store.get(&path, pack.size.min(MAX_PACK_LEN)).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_transient() => return Err(Trouble::Store(error)),
        Err(error) => return Err(damaged(Fault::Unreadable { why: causes(&error) })),
    };
    if ObjectId::of(&bytes) != pack.id {
        return Err(damaged(Fault::Hash));
    }
    let content = |why: String| damaged(Fault::Content { why });
    // Unwraps the file key and checks the header's MAC with it.
    let reader = PackReader::open(&bytes, None, Unlock::Identities(keys)).map_err(|e| content(causes(&e)))?;
    if *reader.context() != context_of(state, receipt) {
        return Err(damaged(Fault::Forged { why: "it is sealed for another service or keyset".to_owned() }));
    }
    if let Some(frame) = reader.contents().frames.first() {
        let length = frame.chunks.iter().map(|(_, len)| u64::from(*len)).sum();
        let plain = reader.read_range(0, length).map_err(|e| content(causes(&e)))?;
        let mut rest = plain.as_slice();
        for (id, len) in &frame.chunks {
            let (chunk, after) = rest.split_at_checked(*len as usize).unwrap_or((rest, &[]));
            if index.chunk_key.id(chunk) != *id {
                return Err(content(format!("chunk {id} has other bytes than its name says")));
            }
            rest = after;
        }
    }
    Ok(Some(pack.id))
}

fn trouble(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Store(error) => error.into(),
        Trouble::Damaged(damage) => {
            Failure::new(Exit::Damaged, "VERIFY-02: the newest round cannot be looked into")
                .because(damage_line(&damage))
                .next("muster verify names everything that is damaged")
        }
    }
}
