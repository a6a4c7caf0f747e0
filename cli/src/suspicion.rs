//! Damage that this machine found, told to the leader: it looks for itself, and what is damaged goes into quarantine, so that the
//! next round uploads again what it held.

use std::collections::BTreeMap;

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

/// Tells the leader. Gives the services that it looks at.
///
/// # Errors
/// Exit 7 when the operator may not; exit 6 when nobody answers.
pub(crate) async fn tell(
    operator: &Operator,
    damaged: impl Iterator<Item = &Damage>,
) -> Result<Vec<ServiceName>, Failure> {
    let sorted = sorted(damaged);
    let mut services: Vec<ServiceName> = sorted.keys().map(|(service, _)| service.clone()).collect();
    services.dedup();
    if services.is_empty() {
        return Ok(services);
    }
    let fleet = Fleet::of(operator.clone()).await?;
    fleet.operator_may(operator, "have objects read again")?;
    let signer = secret_file::read_signing_key(&operator.operator.key)?;
    let leader = Leader::connect(operator).await?;
    for ((service, found), objects) in sorted {
        for some in objects.chunks(MAX_SUSPECTS) {
            let demand = Demand::Suspect { service: service.clone(), objects: some.to_vec(), found };
            let reply = leader.demand(&fleet, &signer, demand).await?;
            match reply.state {
                CommandState::Done => {}
                CommandState::Nothing | CommandState::Refused => {
                    screen::aside(format!("{service}: {}", reply.reason));
                }
            }
        }
    }
    Ok(services)
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
