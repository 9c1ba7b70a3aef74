//! What clients and their fills do in a process, as `serve` does it.

use super::origin::{Rest, Sent, ask_rest};
use super::*;
use crate::cache::growing_file::GrowingFile;
use crate::cache::room::Rooms;

/// A client, as `proxy::cached` does it.
pub(crate) async fn client(process: Rc<ProcessRun>, number: usize) -> Outcome {
    let key = &process.keys[number];
    let inflight = &process.store.inflight;
    for _ in 0..LOOKS {
        let endings = inflight.endings();
        match process.store.look_up(key.as_str()) {
            Found::File(entry) => {
                assert_eq!(entry.info.size, process.sizes[number] as u64, "a hit that is not whole");
                return Outcome::Hit;
            }
            Found::Absent => {}
            Found::Directory | Found::Unusable(_) => return Outcome::Blocked,
        }
        process.rng.pause().await;
        match inflight.enter(key) {
            Turn::Follow(fill) => {
                let follower = fill.follow(0);
                process.rng.pause().await;
                if let Some(outcome) = follow(&process, number, &fill, follower).await {
                    return outcome;
                }
            }
            Turn::Lead(permit) if inflight.endings() == endings => {
                return lead(&process, number, permit).await;
            }
            Turn::Lead(permit) => match process.store.look_up(key.as_str()) {
                Found::Absent => return lead(&process, number, permit).await,
                Found::File(_) | Found::Directory | Found::Unusable(_) => permit.withdraw(),
            },
            Turn::Full => unreachable!("there is no bound on fills"),
        }
    }
    Outcome::Passed
}

/// The first of them, as `proxy::fetch::fill` does it.
async fn lead(process: &Rc<ProcessRun>, number: usize, permit: Permit) -> Outcome {
    let found = process.store.look_up(process.keys[number].as_str());
    assert!(!matches!(found, Found::File(_)), "{} is there and is fetched again", PATHS[number]);
    let fill = Arc::clone(permit.fill());
    let fetch = Rc::new(Fetch {
        fill: Arc::clone(&fill),
        fate: process.fate(number),
        given_up: Cell::default(),
        version: Cell::default(),
    });
    process.fetches.borrow_mut().push(Rc::clone(&fetch));
    process.rng.pause().await;
    let left = Some(&process.store).filter(|store| store.has_left_over(permit.key()) == Some(true));
    let left = left.and_then(|store| store.left_over(permit.key(), &url(number)));
    process.rng.pause().await;
    let (partial, coming) = match begin(process, number, &fetch, left) {
        Ok(begun) => begun,
        Err(NoFile::Declined(why)) => {
            permit.decline(why);
            return Outcome::Declined;
        }
        Err(NoFile::Again | NoFile::Failed(_)) => {
            permit.fail(failure());
            return Outcome::NoAnswer;
        }
    };
    if coming.stored > 0 {
        fill.advance(coming.stored as u64);
    }
    fill.announce(answer(coming.end, partial.file()));
    let follower = fill.follow(0);
    process.spawned.borrow_mut().push(Task::new(run(
        Rc::clone(process),
        number,
        fetch,
        permit,
        partial,
        coming,
    )));
    follow(process, number, &fill, follower).await.unwrap()
}

fn url(number: usize) -> Vec<u8> {
    format!("http://origin{}", PATHS[number]).into_bytes()
}

/// Goes on with what was left, or begins a file anew.
fn begin(
    process: &ProcessRun,
    number: usize,
    fetch: &Fetch,
    left: Option<LeftOver>,
) -> Result<(Partial, Coming), NoFile> {
    let unanswered = match fetch.fate {
        Fate::NoAnswer => Some(NoFile::Failed(failure())),
        Fate::Declined => Some(NoFile::Declined(BypassReason::Status)),
        Fate::Whole | Fate::Breaks(_) | Fate::Dropped(_) | Fate::DiskFull(_) => None,
    };
    if let Some(LeftOver { mut partial, record, stored }) = left {
        let rest = match unanswered {
            None => ask_rest(process, number, usize::try_from(stored).unwrap(), &record.identity),
            Some(_) => Rest::Unanswered,
        };
        match rest {
            Rest::GoesOn(coming, version) => {
                process.meet(Event::TakenOver, 1);
                fetch.version.set(version);
                return Ok((partial, coming));
            }
            Rest::Unanswered => {
                partial.leave(stored);
                return Err(unanswered.unwrap_or(NoFile::Declined(BypassReason::Status)));
            }
            Rest::Another => drop(partial),
        }
    }
    if let Some(no_file) = unanswered {
        return Err(no_file);
    }
    let Sent { head, body, version } = process.origin.whole(number);
    fetch.version.set(version);
    let partial = process.store.begin(&process.keys[number]).map_err(NoFile::Declined)?;
    let identity = Identity::of(&head, 0).filter(|_| !process.rng.one_in(8));
    if let Some(identity) = &identity {
        partial.describe(url(number), Vec::new(), identity.clone());
    }
    let end = head.fields.contains("content-length").then_some(body.len());
    Ok((partial, Coming { body, stored: 0, end, identity }))
}

pub(crate) fn answer(length: Option<usize>, file: &Arc<Placed<Locked>>) -> Answer {
    let fields = Fields::new();
    let head =
        ResponseHead { status: 200, reason: Box::default(), version: Version::Http11, fields, source: None };
    let length = length.map(|length| length as u64);
    Answer { head, length, modified: Some(MODIFIED), file: GrowingFile::Named(Arc::clone(file)), kept: None }
}

/// Times in a row that the rest is asked for.
const ATTEMPTS: usize = 2;

/// The fetch: body to file, and the file into the line.
async fn run(
    process: Rc<ProcessRun>,
    number: usize,
    fetch: Rc<Fetch>,
    permit: Permit,
    partial: Partial,
    mut coming: Coming,
) -> Option<Outcome> {
    let mut fate = fetch.fate;
    while !coming.body.is_empty() || matches!(fate, Fate::Breaks(_)) {
        process.rng.pause().await;
        let piece = coming.body.len().min(1 + process.rng.below(80));
        let is_past = |at: usize| coming.stored + piece > at || piece == 0;
        match fate {
            Fate::Dropped(at) if is_past(at) => return None,
            Fate::Breaks(at) if is_past(at) => match go_on(&process, number, &coming).await {
                Rest::GoesOn(rest, _) => {
                    process.meet(Event::GoneOn, 1);
                    let more = process.rng.below(rest.body.len() + 1);
                    fate = if process.rng.one_in(2) { Fate::Breaks(rest.stored + more) } else { Fate::Whole };
                    coming = rest;
                    continue;
                }
                rest @ (Rest::Unanswered | Rest::Another) => {
                    give_up(&process, permit, partial, coming.stored, &rest);
                    return None;
                }
            },
            Fate::DiskFull(at) if is_past(at) => {
                drop(partial);
                unstored(&process, &fetch, permit, &coming.body).await;
                return None;
            }
            Fate::Whole
            | Fate::NoAnswer
            | Fate::Declined
            | Fate::Breaks(_)
            | Fate::Dropped(_)
            | Fate::DiskFull(_) => {}
        }
        let rest = coming.body.split_off(piece);
        file::write_at(&**partial.file(), &coming.body, coming.stored as u64).unwrap();
        coming.body = rest;
        coming.stored += piece;
        fetch.fill.advance(coming.stored as u64);
        if process.rng.one_in(3) {
            partial.journal().checkpoint(coming.stored as u64, process.rng.one_in(2));
        }
    }
    fetch.fill.complete();
    let told = Arc::clone(&process.told);
    let report =
        Box::new(move |outcome: std::io::Result<()>| told.lock().unwrap().push((number, outcome.is_ok())));
    let (size, modified) =
        (coming.stored as u64, permit.fill().announced().and_then(|response| response.modified));
    let room = Rooms::new(1).take_anyway();
    process.line.borrow_mut().push(Whole { permit, partial, size, modified, room, dated: None, report });
    None
}

/// Asks a few times for the rest of what broke off.
async fn go_on(process: &ProcessRun, number: usize, coming: &Coming) -> Rest {
    let Some(identity) = &coming.identity else { return Rest::Unanswered };
    for _ in 0..ATTEMPTS {
        process.rng.pause().await;
        match ask_rest(process, number, coming.stored, identity) {
            Rest::Unanswered => {}
            rest @ (Rest::GoesOn(..) | Rest::Another) => return rest,
        }
    }
    Rest::Unanswered
}

/// There is no rest: what is good is left.
fn give_up(process: &ProcessRun, permit: Permit, mut partial: Partial, stored: usize, why: &Rest) {
    match why {
        Rest::Unanswered => {
            let file = Arc::clone(partial.file());
            partial.leave(stored as u64);
            process.meet(Event::LeftByFetch, usize::from(Record::read(&*file).is_some()));
        }
        Rest::GoesOn(..) | Rest::Another => drop(partial),
    }
    permit.fail(failure());
}

/// After a disk error: the rest goes through memory.
async fn unstored(process: &ProcessRun, fetch: &Fetch, permit: Permit, mut rest: &[u8]) {
    permit.leave();
    let waiter = Waiter::new();
    while !rest.is_empty() {
        process.rng.pause().await;
        let (piece, after) = rest.split_at(rest.len().min(1 + process.rng.below(80)));
        rest = after;
        if !permit.fill().hand_over(piece.to_vec(), &waiter).await {
            fetch.given_up.set(true);
            return;
        }
    }
    permit.fill().complete();
}

/// Follows a fill, as `deliver::follow` does it. `None` if there is a file to look for instead.
async fn follow(
    process: &ProcessRun,
    number: usize,
    fill: &Arc<Fill>,
    follower: Result<Follower, NoFile>,
) -> Option<Outcome> {
    let fetch = process.fetch_of(fill);
    let waiter = Waiter::new();
    let joined = match follower {
        Ok(follower) => fill.answer(&waiter).await.map(|answer| (follower, answer)),
        Err(no_file) => {
            assert!(matches!(fetch.fate, Fate::DiskFull(_)), "no way to follow: {no_file:?}");
            return Some(Outcome::Refused);
        }
    };
    let outcome = match joined {
        Ok((follower, answer)) => {
            let body = body_of(number, fetch.version.get());
            read(process, &body, &answer, &follower, &waiter).await
        }
        Err(NoFile::Again) => return None,
        Err(NoFile::Declined(_)) => Outcome::Declined,
        Err(NoFile::Failed(_)) => Outcome::NoAnswer,
    };
    let fits = match outcome {
        Outcome::Exact => !matches!(fetch.fate, Fate::NoAnswer | Fate::Declined),
        Outcome::Broken => matches!(fetch.fate, Fate::Breaks(_) | Fate::Dropped(_)) || fetch.given_up.get(),
        Outcome::NoAnswer => !matches!(fetch.fate, Fate::Whole | Fate::Declined) || fetch.given_up.get(),
        // Another process may hold the file, or the disk refuse it.
        Outcome::Declined => !process.calm,
        Outcome::Left => true,
        Outcome::Hit | Outcome::Refused | Outcome::Blocked | Outcome::Passed => false,
    };
    assert!(fits, "{outcome:?} where the fetch's fate was {:?}", fetch.fate);
    Some(outcome)
}

/// Reads the body, or a part of it, from the file and from memory.
async fn read(
    process: &ProcessRun,
    body: &[u8],
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
) -> Outcome {
    let rng = &process.rng;
    let file = fs::File::from(answer.file.named().unwrap().as_fd().try_clone_to_owned().unwrap());
    let first = if rng.one_in(3) { rng.below(body.len()) } else { 0 };
    let end =
        answer.length.map(|_| if rng.one_in(3) { first + rng.below(body.len() - first) } else { body.len() });
    let leaves_at = (!process.calm && rng.one_in(8)).then(|| rng.below(body.len()));
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
        let count = 1 + rng.below(got.len().min(most));
        assert_eq!(got[..count], body[at..at + count], "wrong bytes at {at} of {}", body.len());
        at += count;
        rng.pause().await;
    }
}
