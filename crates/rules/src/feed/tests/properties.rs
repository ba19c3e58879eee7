use std::collections::HashSet;

use doorward_core::revocation::Generation;
use proptest::prelude::*;

use super::*;

/// What happens at one of three replicas, or which of them is asked.
#[derive(Clone, Debug)]
enum Event {
    End(usize, u8),
    EndBefore(usize, u8, u64),
    Activity(u8, bool),
    Forget(usize),
    Ask(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let replica = 0..3_usize;
    prop_oneof![
        3 => (replica.clone(), any::<u8>()).prop_map(|(at, id)| Event::End(at, id)),
        2 => (replica.clone(), 0..8_u8, 1..50_u64).prop_map(|(at, id, of)| Event::EndBefore(at, id, of)),
        2 => (0..8_u8, any::<bool>()).prop_map(|(id, is)| Event::Activity(id, is)),
        1 => replica.clone().prop_map(Event::Forget),
        4 => replica.prop_map(Event::Ask),
    ]
}

fn set_activity(revoked: &Revocations, id: u8, inactive: bool) {
    let mut users = HashSet::clone(&revoked.inactive());
    let user: Box<str> = id.to_string().into();
    match inactive {
        true => users.insert(user),
        false => users.remove(&user),
    };
    revoked.set_inactive(users);
}

proptest! {
    // Each case makes several token caches, which takes most of its time.
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// For any order of events, the follower finally knows everything that any replica knows.
    #[test]
    fn a_follower_knows_what_all_replicas_know(events in prop::collection::vec(event(), 0..80)) {
        let replicas = [Replica::usual(), Replica::usual(), Replica::usual()];
        let mut known = follower();
        for event in &events {
            match event {
                Event::End(at, id) => replicas[*at].judge.revoked.end(&format!("t{id}"), later(60)),
                Event::EndBefore(at, id, of) => {
                    replicas[*at].judge.revoked.end_before(&id.to_string(), Generation(*of), later(60));
                }
                // All of them read the same table.
                Event::Activity(id, is) => {
                    for replica in &replicas {
                        set_activity(&replica.judge.revoked, *id, *is);
                    }
                }
                Event::Forget(at) => replicas[*at].judge.revoked.forget(NOW),
                Event::Ask(at) => {
                    let question = known.question();
                    known.take(&replicas[*at].answer(&question), NOW).unwrap();
                }
            }
        }
        for replica in &replicas {
            follow(&mut known, replica, NOW);
        }
        let mut ids = HashSet::new();
        for replica in &replicas {
            let revoked = &replica.judge.revoked;
            for change in revoked.changes_after(None, usize::MAX).unwrap().changes {
                if let doorward_core::revocation::Change::Ended { id, .. } = change {
                    ids.insert(id);
                }
            }
            for user in 0..8 {
                let user = user.to_string();
                prop_assert!(known.revoked().generation(&user) >= revoked.generation(&user));
            }
            prop_assert_eq!(&*known.revoked().inactive(), &*revoked.inactive());
        }
        let generations = (0..8_u8)
            .filter(|user| known.revoked().generation(&user.to_string()) > Generation(0))
            .count();
        let inactive = known.revoked().inactive().len();
        prop_assert_eq!(known.revoked().len(), ids.len() + generations + inactive);
    }

    /// Arbitrary bytes and damaged answers cause no panic, and a refused answer changes nothing.
    #[test]
    fn a_damaged_answer_changes_nothing(at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let replica = Replica::usual();
        replica.judge.revoked.end("t", later(60));
        let mut known = follower();
        let question = known.question();
        let mut answer = replica.answer(&question);
        let before = image(&known);
        prop_assert!(known.take(&noise, NOW).is_err());
        prop_assert_eq!(image(&known), before.clone());
        let at = at.index(answer.len());
        answer[at] = byte;
        if known.take(&answer, NOW).is_err() {
            prop_assert_eq!(image(&known), before);
        }
    }
}
