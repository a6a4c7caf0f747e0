//! Whether the whole roster could be recovered as promised. A round of a few services says nothing about the others; only the
//! roster does.

use std::time::Duration;

use muster_protocol::units::format_duration;

/// Services that a line names.
const NAMED: usize = 5;

/// How old the newest verified slice of a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The service.
    pub service: String,
    /// Some committed round holds it, verified or not.
    pub stored: bool,
    /// Age of the newest verified round that holds it.
    pub verified: Option<Duration>,
    /// Its newest verified slice rests on objects that are damaged.
    pub damaged: bool,
}

/// Why the fleet cannot be recovered as promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Services of which no round holds a slice.
    pub never: Vec<String>,
    /// Services whose rounds were all found not whole, or not looked at yet.
    pub unverified: Vec<String>,
    /// Services whose newest verified slice rests on damaged objects.
    pub damaged: Vec<String>,
    /// Services whose newest verified round is older than promised.
    pub late: Vec<(String, Duration)>,
    /// Nobody is in the roster.
    pub nobody: bool,
}

impl Shortfall {
    /// Judges over all services of the roster.
    #[must_use]
    pub fn of(roster: &[Standing], promised: Option<Duration>) -> Self {
        let mut shortfall = Self { nobody: roster.is_empty(), ..Self::default() };
        for standing in roster {
            let service = standing.service.clone();
            if standing.damaged {
                shortfall.damaged.push(service);
                continue;
            }
            match standing.verified {
                Some(age) if promised.is_some_and(|most| age > most) => shortfall.late.push((service, age)),
                Some(_) => {}
                None if standing.stored => shortfall.unverified.push(service),
                None => shortfall.never.push(service),
            }
        }
        shortfall
    }

    /// Nothing is short.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The reasons, for people.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.nobody {
            reasons.push("the roster has no service".to_owned());
        }
        if !self.never.is_empty() {
            reasons.push(format!("{} (COVER-01 no slice yet)", names(&self.never)));
        }
        if !self.unverified.is_empty() {
            reasons.push(format!("{} (in no verified round)", names(&self.unverified)));
        }
        if !self.damaged.is_empty() {
            reasons.push(format!("{} (VERIFY-01 rests on damaged objects)", names(&self.damaged)));
        }
        for (service, age) in self.late.iter().take(NAMED) {
            reasons.push(format!("{service} (last verified {} ago)", format_duration(*age)));
        }
        if self.late.len() > NAMED {
            reasons.push(format!("{} more that are too old", self.late.len() - NAMED));
        }
        reasons
    }
}

fn names(services: &[String]) -> String {
    let mut text = services[..services.len().min(NAMED)].join(", ");
    if services.len() > NAMED {
        text.push_str(&format!(" and {} more", services.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Shortfall, Standing};
    use muster_protocol::units::format_duration;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn standing(service: &str, stored: bool, verified_hours: Option<u64>) -> Standing {
        let verified = verified_hours.map(|hours| Duration::from_secs(3600 * hours));
        Standing { service: service.to_owned(), stored, verified, damaged: false }
    }

    #[test]
    fn ready_only_if_each_service_is_verified_in_time() {
        let ready = |roster: &[Standing]| Shortfall::of(roster, Some(DAY)).is_none();
        assert!(ready(&[standing("a", true, Some(1)), standing("b", true, Some(24))]));
        // A narrow round of `a` makes nothing of `b`.
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", false, None)]));
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", true, Some(25))]));
        assert!(!ready(&[standing("a", true, Some(0)), standing("b", true, None)]));
        assert!(!ready(&[]));
        let ill = Standing { damaged: true, ..standing("b", true, Some(1)) };
        assert!(!ready(&[standing("a", true, Some(1)), ill]));
        assert!(Shortfall::of(&[standing("a", true, Some(9999))], None).is_none());
    }

    #[test]
    fn the_reasons_name_the_services() {
        let roster = [
            standing("orders", true, Some(48)),
            standing("secrets", false, None),
            standing("web", true, None),
            standing("dns", true, Some(2)),
            Standing { damaged: true, ..standing("mail", true, Some(2)) },
        ];
        let reasons = Shortfall::of(&roster, Some(DAY)).reasons();
        assert_eq!(
            reasons,
            [
                "secrets (COVER-01 no slice yet)",
                "web (in no verified round)",
                "mail (VERIFY-01 rests on damaged objects)",
                &format!("orders (last verified {} ago)", format_duration(2 * DAY))
            ]
        );
        let many: Vec<_> = (0..7).map(|n| standing(&format!("s{n}"), false, None)).collect();
        let reasons = Shortfall::of(&many, None).reasons();
        assert_eq!(reasons, ["s0, s1, s2, s3, s4 and 2 more (COVER-01 no slice yet)"]);
    }
}
