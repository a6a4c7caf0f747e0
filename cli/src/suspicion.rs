//! Damage that this machine found, told to the leader: it looks for itself, and what is damaged goes into quarantine, so that the
//! next round uploads again what it held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::Found;
use muster_protocol::message::{CommandState, Demand, MAX_SUSPECTS};
use muster_share::secret_file;
use muster_share::verify::{Damage, Fault};

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::leader::Leader;
use crate::operator::Operator;
use crate::screen;

/// How long the leader may take to say what it found: it reads each object twice.
const LOOKS: Duration = Duration::from_secs(30);
/// Between two looks at the log.
const AGAIN: Duration = Duration::from_millis(300);

/// What the leader is to look at, by service and by how it showed. Damage of what belongs to no service heals nobody.
fn sorted<'a>(damaged: impl Iterator<Item = &'a Damage>) -> BTreeMap<(ServiceName, Found), Vec<ObjectId>> {
    let mut sorted: BTreeMap<_, Vec<ObjectId>> = BTreeMap::new();
    for damage in damaged {
        let (Some(service), Some(id)) = (damage.service(), damage.object.id()) else { continue };
        let found = match damage.fault {
            Fault::Missing | Fault::Length { .. } | Fault::Hash | Fault::Unreadable { .. } => Found::Bytes,
            Fault::Content { .. } => Found::Content,
            // Whoever signed it is the trouble, not its bytes.
            Fault::Forged { .. } => continue,
        };
        sorted.entry((service.clone(), found)).or_default().push(*id);
    }
    sorted
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Services of which something is in quarantine now.
    pub(crate) ill: Vec<ServiceName>,
    /// Services whose quarantine is over: what was damaged is whole again.
    pub(crate) lifted: Vec<ServiceName>,
}

/// Has the leader look at what is damaged, and once more at what is in quarantine and was found whole here; waits until it has
/// said what it found.
///
/// # Errors
/// Exit 7 when the operator may not; exit 6 when nobody answers.
pub(crate) async fn tell(
    operator: &Operator,
    damaged: impl Iterator<Item = &Damage> + Clone,
) -> Result<Told, Failure> {
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let mut sorted = sorted(damaged.clone());
    let bad: BTreeSet<ObjectId> = sorted.values().flatten().copied().collect();
    let mut back = BTreeMap::new();
    for (service, of) in &fleet.state().quarantine {
        let whole: Vec<ObjectId> = of.objects.keys().filter(|id| !bad.contains(id)).copied().collect();
        if !whole.is_empty() {
            back.insert(service.clone(), whole.clone());
            sorted.entry((service.clone(), Found::Bytes)).or_default().extend(whole);
        }
    }
    let of_the_fleet = damaged.clone().any(|damage| damage.service().is_none());
    if sorted.is_empty() && !of_the_fleet {
        return Ok(Told::default());
    }
    fleet.operator_may(operator, "have objects read again")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let leader = Leader::connect(operator).await?;
    let mut demands = Vec::new();
    if of_the_fleet {
        demands.push(Demand::Suspect { service: None, objects: Vec::new(), found: Found::Bytes });
    }
    for ((service, found), objects) in &sorted {
        for some in objects.chunks(MAX_SUSPECTS) {
            let service = Some(service.clone());
            demands.push(Demand::Suspect { service, objects: some.to_vec(), found: *found });
        }
    }
    for demand in demands {
        let reply = leader.demand(&fleet, &signer, demand).await?;
        match reply.state {
            CommandState::Done => {}
            CommandState::Nothing | CommandState::Refused => screen::aside(&reply.reason),
        }
    }
    let is_said = |fleet: &Fleet| {
        let state = fleet.state();
        let known = |service: &ServiceName, id: &ObjectId| state.is_quarantined(service, id);
        sorted.iter().all(|((service, _), objects)| {
            let back = back.get(service);
            objects.iter().all(|id| known(service, id) != back.is_some_and(|back| back.contains(id)))
        })
    };
    let began = Instant::now();
    while !is_said(&fleet) && began.elapsed() < LOOKS {
        tokio::time::sleep(AGAIN).await;
        fleet.log.refresh().await?;
    }
    let state = fleet.state();
    let mut told = Told::default();
    for (service, _) in sorted.keys() {
        let here = if state.quarantine.contains_key(service) { &mut told.ill } else { &mut told.lifted };
        if here.last() != Some(service) {
            here.push(service.clone());
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::sorted;
    use muster_protocol::ids::ObjectId;
    use muster_protocol::log::Found;
    use muster_share::layout::ObjectPath;
    use muster_share::verify::{Damage, Fault};

    #[test]
    fn what_heals_is_told_by_service_and_kind() {
        let id = |text: &str| ObjectId::of(text.as_bytes());
        let pack = |name: &str, object: &str, fault| {
            Damage::new(ObjectPath::Pack { service: name.parse().expect("a name"), id: id(object) }, fault)
        };
        let why = || "no".to_owned();
        let damaged = [
            pack("dns", "a", Fault::Missing),
            pack("dns", "b", Fault::Content { why: why() }),
            pack("dns", "c", Fault::Hash),
            pack("web", "d", Fault::Forged { why: why() }),
            Damage::new(ObjectPath::Manifest(id("e")), Fault::Hash),
        ];
        let dns = || "dns".parse().expect("a name");
        let want =
            [((dns(), Found::Bytes), vec![id("a"), id("c")]), ((dns(), Found::Content), vec![id("b")])];
        assert_eq!(sorted(damaged.iter()).into_iter().collect::<Vec<_>>(), want);
    }
}
