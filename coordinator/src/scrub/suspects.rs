//! What an operator suspects: it is looked at now, whatever the scrub is at.

use muster_protocol::ids::{ObjectId, ServiceName};
use muster_protocol::log::Found;
use muster_share::verify::{Damage, Fault, Pace};

use super::{Scrubber, Stop};
use crate::quarantine;

/// Objects of one service that are to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct Suspects {
    /// Whose; none: those of the fleet itself.
    pub(crate) service: Option<ServiceName>,
    /// Which; none: all that the service has.
    pub(crate) objects: Vec<ObjectId>,
    /// How it showed. What only a key sees is believed; whatever everybody sees is seen for oneself.
    pub(crate) found: Found,
}

impl Scrubber {
    /// Looks at what is suspected, and puts what is damaged into quarantine. What no round needs is passed over.
    pub(super) async fn look_into(&mut self, suspects: Suspects) -> Result<(), Stop> {
        let Suspects { service, objects, found } = suspects;
        // Manifests are few, and without them nothing is known to be needed.
        let state = self.scribe.state();
        self.look_at_the_fleet(&state).await?;
        let Some(service) = service else { return Ok(()) };
        let inventory = self.inventory(&service).await?;
        let named = inventory.iter().filter(|(id, _)| objects.is_empty() || objects.contains(id));
        let named: Vec<_> = named.map(|(id, (path, size))| (*id, path.clone(), *size)).collect();
        let unsaid = std::mem::take(&mut self.found);
        let looked = match found {
            Found::Content => {
                let why = || Fault::Content { why: "an operator's key does not read it".to_owned() };
                let damaged: Vec<_> = named
                    .into_iter()
                    .map(|(_, path, _)| (service.clone(), Damage::new(path, why())))
                    .collect();
                quarantine::add(self.store.as_ref(), &self.scribe, &damaged, found).await.map(drop)?;
                Ok(())
            }
            Found::Bytes => self.read_all(&service, named).await,
        };
        self.found.extend(unsaid);
        looked
    }

    async fn read_all(
        &mut self,
        service: &ServiceName,
        named: Vec<(ObjectId, muster_share::layout::ObjectPath, u64)>,
    ) -> Result<(), Stop> {
        let rate = Self::terms(&self.scribe.state()).map_or(u64::MAX, |terms| terms.bandwidth);
        let mut pace = Pace::new(rate);
        for (id, path, size) in named {
            self.read(service, id, &path, size, &mut pace).await?;
        }
        self.tell().await
    }
}
