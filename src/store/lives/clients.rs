//! What clients and their fills do in a life, as `serve` does it.

use super::*;

/// A client, as `serve::cached` does it.
pub(super) async fn client(life: Rc<Life>, number: usize) -> Outcome {
    let key = &life.keys[number];
    let inflight = &life.store.inflight;
    for _ in 0..LOOKS {
        let endings = inflight.endings();
        match life.store.look_up(key.as_str()) {
            Found::File(entry) => {
                assert_eq!(entry.info.size, life.bodies[number].len() as u64, "a hit that is not whole");
                return Outcome::Hit;
            }
            Found::Absent => {}
            Found::Directory | Found::Unusable(_) => return Outcome::Blocked,
        }
        life.dice.pause().await;
        match inflight.enter(key) {
            Turn::Follow(fill) => {
                let follower = fill.follow(0);
                life.dice.pause().await;
                if let Some(outcome) = follow(&life, number, &fill, follower).await {
                    return outcome;
                }
            }
            Turn::Lead(permit) if inflight.endings() == endings => return lead(&life, number, permit).await,
            Turn::Lead(permit) => match life.store.look_up(key.as_str()) {
                Found::Absent => return lead(&life, number, permit).await,
                Found::File(_) | Found::Directory | Found::Unusable(_) => permit.withdraw(),
            },
            Turn::Full => unreachable!("there is no bound on fills"),
        }
    }
    Outcome::Passed
}

/// The first of them, as `serve::fill` does it.
async fn lead(life: &Rc<Life>, number: usize, permit: Permit) -> Outcome {
    let found = life.store.look_up(life.keys[number].as_str());
    assert!(!matches!(found, Found::File(_)), "{} is there and is fetched again", PATHS[number]);
    let fill = Arc::clone(permit.fill());
    let fetch =
        Rc::new(Fetch { fill: Arc::clone(&fill), fate: life.fate(number), given_up: Cell::default() });
    life.fetches.borrow_mut().push(Rc::clone(&fetch));
    life.dice.pause().await;
    match fetch.fate {
        Fate::NoAnswer => {
            permit.fail(failure());
            return Outcome::NoAnswer;
        }
        Fate::Declined => {
            permit.decline(Why::Status);
            return Outcome::Declined;
        }
        Fate::Whole | Fate::Breaks(_) | Fate::Dropped(_) | Fate::DiskFull(_) => {}
    }
    let partial = match life.store.begin(permit.key()) {
        Ok(partial) => partial,
        Err(why) => {
            permit.decline(why);
            return Outcome::Declined;
        }
    };
    fill.announce(answer(life, number, partial.file()));
    let follower = fill.follow(0);
    life.spawned.borrow_mut().push(Task::new(run(Rc::clone(life), number, fetch, permit, partial)));
    follow(life, number, &fill, follower).await.unwrap()
}

pub(super) fn answer(life: &Life, number: usize, file: &Arc<Locked>) -> Answer {
    let fields = Fields::new();
    let head = ResponseHead { status: 200, reason: Box::default(), version: Version::Http11, fields };
    let length = life.dice.one_in(2).then_some(life.bodies[number].len() as u64);
    Answer { head, length, modified: Some(MODIFIED), file: Arc::clone(file), kept: None }
}

/// The fetch: body to file, and the file into the line.
async fn run(
    life: Rc<Life>,
    number: usize,
    fetch: Rc<Fetch>,
    permit: Permit,
    partial: Partial,
) -> Option<Outcome> {
    let body = &life.bodies[number];
    let mut stored = 0;
    loop {
        life.dice.pause().await;
        let piece = &body[stored..body.len().min(stored + 1 + life.dice.below(80))];
        match fetch.fate {
            Fate::Dropped(at) if stored + piece.len() > at => return None,
            Fate::Breaks(at) if stored + piece.len() > at => {
                drop(partial);
                permit.fail(failure());
                return None;
            }
            Fate::DiskFull(at) if stored + piece.len() > at => {
                drop(partial);
                unstored(&life, &fetch, permit, &body[stored..]).await;
                return None;
            }
            Fate::Whole
            | Fate::NoAnswer
            | Fate::Declined
            | Fate::Breaks(_)
            | Fate::Dropped(_)
            | Fate::DiskFull(_) => {}
        }
        if piece.is_empty() {
            break;
        }
        file::write_at(&**partial.file(), piece, stored as u64).unwrap();
        stored += piece.len();
        fetch.fill.advance(stored as u64);
    }
    fetch.fill.complete();
    let told = Arc::clone(&life.told);
    let report =
        Box::new(move |outcome: std::io::Result<()>| told.lock().unwrap().push((number, outcome.is_ok())));
    let (size, modified) = (body.len() as u64, permit.fill().modified());
    life.line.borrow_mut().push(Whole { permit, partial, size, modified, dated: None, report });
    None
}

/// After a disk error: the rest goes through memory.
async fn unstored(life: &Life, fetch: &Fetch, permit: Permit, mut rest: &[u8]) {
    permit.leave();
    let waiter = Waiter::new().unwrap();
    while !rest.is_empty() {
        life.dice.pause().await;
        let (piece, after) = rest.split_at(rest.len().min(1 + life.dice.below(80)));
        rest = after;
        if !permit.fill().hand_over(piece.to_vec(), &waiter).await {
            fetch.given_up.set(true);
            return;
        }
    }
    permit.fill().complete();
}

/// Follows a fill, as `serve::follow` does it. `None` if there is a file to look for instead.
async fn follow(
    life: &Life,
    number: usize,
    fill: &Arc<Fill>,
    follower: Result<Follower, NoFile>,
) -> Option<Outcome> {
    let fetch = life.fetch_of(fill);
    let waiter = Waiter::new().unwrap();
    let joined = match follower {
        Ok(follower) => fill.answer(&waiter).await.map(|answer| (follower, answer)),
        Err(no_file) => {
            assert!(matches!(fetch.fate, Fate::DiskFull(_)), "no way to follow: {no_file:?}");
            return Some(Outcome::Refused);
        }
    };
    let outcome = match joined {
        Ok((follower, answer)) => read(life, number, &answer, &follower, &waiter).await,
        Err(NoFile::Again) => return None,
        Err(NoFile::Declined(_)) => Outcome::Declined,
        Err(NoFile::Failed(_)) => Outcome::NoAnswer,
    };
    let fits = match outcome {
        Outcome::Exact => !matches!(fetch.fate, Fate::NoAnswer | Fate::Declined),
        Outcome::Broken => matches!(fetch.fate, Fate::Breaks(_) | Fate::Dropped(_)) || fetch.given_up.get(),
        Outcome::NoAnswer => !matches!(fetch.fate, Fate::Whole | Fate::Declined) || fetch.given_up.get(),
        // Another process may hold the file, or the disk refuse it.
        Outcome::Declined => !life.calm,
        Outcome::Left => true,
        Outcome::Hit | Outcome::Refused | Outcome::Blocked | Outcome::Passed => false,
    };
    assert!(fits, "{outcome:?} where the fetch's fate was {:?}", fetch.fate);
    Some(outcome)
}

/// Reads the body, or a part of it, from the file and from memory.
async fn read(life: &Life, number: usize, answer: &Answer, follower: &Follower, waiter: &Waiter) -> Outcome {
    let (dice, body) = (&life.dice, &life.bodies[number]);
    let file = fs::File::from(answer.file.as_fd().try_clone_to_owned().unwrap());
    let first = if dice.one_in(3) { dice.below(body.len()) } else { 0 };
    let end = answer
        .length
        .map(|_| if dice.one_in(3) { first + dice.below(body.len() - first) } else { body.len() });
    let leaves_at = (!life.calm && dice.one_in(8)).then(|| dice.below(body.len()));
    let mut at = first;
    loop {
        if leaves_at.is_some_and(|limit| at - first >= limit) {
            return Outcome::Left;
        }
        if end == Some(at) {
            return Outcome::Exact;
        }
        let got = match follower.next(at as u64, waiter).await {
            Progress::Upto(stored) => {
                let mut bytes = vec![0; usize::try_from(stored).unwrap() - at];
                file.read_exact_at(&mut bytes, at as u64).unwrap();
                bytes
            }
            Progress::Piece(bytes, skip) => bytes[skip..].to_vec(),
            Progress::End(total) => {
                assert_eq!((total, at), (body.len() as u64, body.len()), "the end is told wrongly");
                return Outcome::Exact;
            }
            Progress::Broken(_) => return Outcome::Broken,
        };
        let most = end.unwrap_or(body.len()) - at;
        let count = 1 + dice.below(got.len().min(most));
        assert_eq!(got[..count], body[at..at + count], "wrong bytes at {at} of {}", PATHS[number]);
        at += count;
        dice.pause().await;
    }
}
