//! Room on the share, for people: how much is free, and for how long that will do.

use muster_protocol::room::{Basis, Outlook};
use muster_protocol::units::{counted, format_size};

/// In one line; none: a share that answers and tells no free space, as object storage does.
pub(crate) fn words(outlook: Option<&Outlook>) -> String {
    let Some(outlook) = outlook else {
        return "this kind of share does not tell how much is free".to_owned();
    };
    let mut said = format!("{} free", format_size(outlook.free_bytes));
    match (outlook.days_left, outlook.basis) {
        (Some(days), Basis::Looks) => said.push_str(&format!(", full in about {}", counted(days, "day"))),
        (Some(days), Basis::Rounds | Basis::Nothing) => {
            said.push_str(&format!(
                ", full in about {} by what the newest rounds added",
                counted(days, "day")
            ));
        }
        (None, Basis::Looks) => said.push_str(", not filling"),
        (None, Basis::Rounds | Basis::Nothing) => {}
    }
    if let Some(need) = outlook.need_bytes.filter(|_| outlook.is_short()) {
        said.push_str(&format!("; the coming rounds may need {}", format_size(need)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::words;
    use muster_protocol::room::{Basis, Outlook};

    #[test]
    fn each_case_has_its_words() {
        let outlook = |days_left, basis, need_bytes| {
            words(Some(&Outlook { free_bytes: 3 << 30, days_left, basis, need_bytes }))
        };
        assert_eq!(outlook(Some(210), Basis::Looks, None), "3.0 GiB free, full in about 210 days");
        assert_eq!(outlook(Some(1), Basis::Looks, None), "3.0 GiB free, full in about 1 day");
        assert_eq!(outlook(None, Basis::Looks, Some(1)), "3.0 GiB free, not filling");
        assert_eq!(outlook(None, Basis::Nothing, None), "3.0 GiB free");
        assert_eq!(
            outlook(Some(9), Basis::Rounds, Some(4 << 30)),
            "3.0 GiB free, full in about 9 days by what the newest rounds added; the coming rounds may need 4.0 GiB"
        );
        assert!(words(None).contains("does not tell"));
    }
}
