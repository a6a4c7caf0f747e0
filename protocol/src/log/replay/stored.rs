//! What becomes of stored objects: what goes, what must not be relied on, and how far they have been read again.

use crate::causes::causes;
use crate::log::body::{MAX_QUARANTINE_OBJECTS, Prune, Pruned, Quarantine, Scrub, Sweep};
use crate::log::member::Role;
use crate::log::record::Record;
use crate::log::state::{MAX_QUARANTINED, RoundPhase, ScrubPass, ScrubState, State};

impl State {
    pub(super) fn prune(&mut self, record: &Record) -> Result<(), String> {
        let prune: Prune = record.body().map_err(|e| causes(&e))?;
        if matches!(self.role(&record.signer), Some(Role::Pruner)) {
            let current = self.epoch.map_or(0, |e| e.epoch);
            if prune.epoch != current {
                return Err(format!("epoch {} is not the current one", prune.epoch));
            }
        } else {
            self.need_lead(record, prune.epoch)?;
        }
        if prune
            .rounds
            .iter()
            .any(|id| self.rounds.get(id).is_none_or(|r| r.hold.is_some() || r.phase == RoundPhase::Open))
        {
            return Err("it marks a round that is open, held or unknown".into());
        }
        self.prunes.insert(record.number, prune);
        Ok(())
    }

    pub(super) fn sweep(&mut self, record: &Record) -> Result<(), String> {
        let sweep: Sweep = record.body().map_err(|e| causes(&e))?;
        if !matches!(self.role(&record.signer), Some(Role::Pruner)) {
            return Err(format!("key {} is no pruner's", record.signer.short()));
        }
        if sweep
            .rounds
            .iter()
            .any(|id| self.rounds.get(id).is_none_or(|r| r.hold.is_some() || r.phase == RoundPhase::Open))
        {
            return Err("it sweeps a round that is open, held or unknown".into());
        }
        let oldest_open = self.open_rounds().iter().map(|round| round.position).min().unwrap_or(u64::MAX);
        let marked = |(position, prune): (&u64, &Prune)| {
            *position < oldest_open && sweep.rounds.iter().all(|id| prune.rounds.contains(id))
        };
        if !self.prunes.iter().any(marked) {
            return Err(
                "no pending mark has all of its rounds, or a round that was open at the mark still is".into(),
            );
        }
        for id in &sweep.rounds {
            if let Some(round) = self.rounds.get_mut(id) {
                round.swept = true;
            }
        }
        self.prunes.clear();
        self.sweeps.insert(record.number, (sweep, false));
        Ok(())
    }

    pub(super) fn pruned(&mut self, record: &Record) -> Result<(), String> {
        let pruned: Pruned = record.body().map_err(|e| causes(&e))?;
        if !matches!(self.role(&record.signer), Some(Role::Pruner)) {
            return Err(format!("key {} is no pruner's", record.signer.short()));
        }
        let (_, done) = self.sweeps.get_mut(&pruned.sweep).ok_or("it ends a sweep that never began")?;
        if std::mem::replace(done, true) {
            return Err("the sweep has ended already".into());
        }
        Ok(())
    }

    pub(super) fn quarantine(&mut self, record: &Record) -> Result<(), String> {
        let Quarantine { epoch, service, add, found, lift, at } = record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, epoch)?;
        if add.len() > MAX_QUARANTINE_OBJECTS || lift.len() > MAX_QUARANTINE_OBJECTS {
            return Err(format!("it names more than {MAX_QUARANTINE_OBJECTS} objects"));
        }
        let mut of = self.quarantine.get(&service).cloned().unwrap_or_default();
        for object in &lift {
            if of.objects.remove(object).is_none() {
                return Err("it lifts what is in no quarantine".into());
            }
        }
        let before = of.objects.len();
        of.objects.extend(add.into_iter().map(|object| (object, found)));
        if of.objects.len() > MAX_QUARANTINED {
            return Err(format!("more than {MAX_QUARANTINED} objects of {service} would be in quarantine"));
        }
        if of.objects.len() > before {
            (of.position, of.at) = (record.number, at);
        }
        if of.objects.is_empty() {
            self.quarantine.remove(&service);
        } else {
            self.quarantine.insert(service, of);
        }
        Ok(())
    }

    pub(super) fn scrub(&mut self, record: &Record) -> Result<(), String> {
        let Scrub { epoch, pass, reached, objects, bytes, began, at } =
            record.body().map_err(|e| causes(&e))?;
        self.need_lead(record, epoch)?;
        let due = match &self.scrub {
            ScrubState { current: Some((current, _)), .. } => current.pass,
            ScrubState { current: None, last } => last.as_ref().map_or(1, |last| last.pass.saturating_add(1)),
        };
        if pass != due {
            return Err(format!("it tells of pass {pass} of the scrub, and {due} is the one under way"));
        }
        let told = ScrubPass { pass, began, at, objects, bytes };
        match reached {
            Some(reached) => self.scrub.current = Some((told, reached)),
            None => self.scrub = ScrubState { current: None, last: Some(told) },
        }
        Ok(())
    }
}
