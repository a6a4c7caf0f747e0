//! The accounts of a fleet's NATS server, as the server reads them. Pure.

use super::permissions::{AGENTS, Bridge, FLEET, Names, OPERATORS, Permissions};
use super::{BusUser, BusUsers, UserKind};

/// Lines of subjects are broken before this column.
const WIDTH: usize = 120;

/// All of it.
pub(super) fn print(users: &BusUsers) -> String {
    let names = Names::of(&users.fleet);
    let bridges = names.bridges();
    let mut out = String::from("accounts {\n");
    for (account, jetstream, kinds) in [
        (FLEET, true, &[UserKind::Coordinator][..]),
        (AGENTS, false, &[UserKind::Agent]),
        (OPERATORS, false, &[UserKind::Operator, UserKind::Viewer, UserKind::Trigger]),
    ] {
        out.push_str(&format!("    {account} {{\n"));
        if jetstream {
            out.push_str("        jetstream: enabled\n");
        }
        out.push_str("        users: [\n");
        for user in kinds.iter().flat_map(|kind| users.of_kind(*kind)) {
            print_user(user, &names.permissions(user), &mut out);
        }
        out.push_str("        ]\n");
        print_bridges(account, &bridges, &mut out);
        out.push_str("    }\n\n");
    }
    out.push_str("    SYS {}\n}\nsystem_account: SYS\n");
    out
}

fn print_user(user: &BusUser, permissions: &Permissions, out: &mut String) {
    let Permissions { publish, subscribe, answers } = permissions;
    let (kind, name) = (user.kind.word(), user.name.as_str());
    let comment = if kind == name { name.to_owned() } else { format!("{kind} {name}") };
    out.push_str(&format!("            # {comment}\n"));
    out.push_str(&format!("            {{ nkey: {}, permissions: {{\n", user.nkey));
    for (what, subjects) in [("publish", publish), ("subscribe", subscribe)] {
        out.push_str(&format!("                {what}: {{ allow: [\n"));
        print_subjects(subjects, out);
        out.push_str("                ] }\n");
    }
    if *answers {
        out.push_str("                # To operators who ask it to restore.\n");
        out.push_str("                allow_responses: { max: 1, ttl: \"1m\" }\n");
    }
    out.push_str("            } }\n");
}

fn print_subjects(subjects: &[String], out: &mut String) {
    const INDENT: &str = "                    ";
    let mut line = String::new();
    for subject in subjects {
        if !line.is_empty() && INDENT.len() + line.len() + subject.len() + 4 > WIDTH {
            out.push_str(&format!("{INDENT}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&format!("\"{subject}\""));
    }
    out.push_str(&format!("{INDENT}{line}\n"));
}

fn print_bridges(account: &str, bridges: &[Bridge], out: &mut String) {
    let lines = |what: &str, lines: Vec<String>, out: &mut String| {
        if !lines.is_empty() {
            out.push_str(&format!("        {what}: [\n{}        ]\n", lines.concat()));
        }
    };
    let export = |Bridge { kind, subject, to, .. }: &Bridge| {
        format!("            {{ {kind}: \"{subject}\", accounts: [{to}] }}\n")
    };
    let import = |Bridge { kind, subject, from, .. }: &Bridge| {
        format!("            {{ {kind}: {{ account: {from}, subject: \"{subject}\" }} }}\n")
    };
    lines("exports", bridges.iter().filter(|bridge| bridge.from == account).map(export).collect(), out);
    lines("imports", bridges.iter().filter(|bridge| bridge.to == account).map(import).collect(), out);
}
