//! Rights the process gives up: to write anywhere but to the cache, and those of root.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;

use crate::support::sandbox::Limit;
use crate::support::tls::Identity;
use crate::support::{Io, Launch, Origin, Server, bytes, has_substitutes, on_both, run_cli, wait_until};

on_both!(
    a_fenced_server_stores_and_serves_as_ever,
    a_fenced_server_reads_certificates_names_and_times,
    a_fenced_server_writes_to_no_other_directory,
    by_default_the_fence_leaves_room_for_a_new_cache_directory,
    behind_a_link_there_is_no_fence_by_default,
    a_fence_that_cannot_be_had_is_refused_only_when_demanded,
    root_becomes_another_user_once_it_listens,
    a_partial_of_another_user_is_replaced,
    a_user_may_be_a_number_and_a_group_another,
    a_user_that_starts_with_capabilities_keeps_none,
);

/// Can this kernel fence off a process (landlock(7))?
fn fences() -> bool {
    let has = crate::support::sandbox::has_landlock();
    if !has {
        eprintln!("SKIPPED: this kernel has no Landlock");
    }
    has
}

/// The value of a line of /proc/PID/status. Rights are given up after the port is open and before
/// the first request is answered.
fn status(server: &Server, name: &str) -> String {
    server.get("/rights");
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Has the server itself opened this? What it has inherited survives an exec.
fn opens(server: &Server, path: &str) -> bool {
    let fds = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    fds.map(|entry| entry.unwrap()).any(|fd| {
        let info = format!("/proc/{}/fdinfo/{}", server.pid(), fd.file_name().to_string_lossy());
        let info = fs::read_to_string(info).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        let own = i32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC != 0;
        own && fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(path))
    })
}

fn a_fenced_server_stores_and_serves_as_ever(io: Io) {
    if !fences() {
        return;
    }
    let body = bytes(3 << 20, 1);
    let origin = Origin::fixed(&body);
    let outside = tempfile::tempdir().unwrap();
    let log = outside.path().join("log");
    let cache = outside.path().join("real");
    fs::create_dir(&cache).unwrap();
    symlink(&cache, outside.path().join("link")).unwrap();
    let server = Launch::new(io, &origin)
        .args(["--sandbox", "on"])
        .cache(&outside.path().join("link"))
        .stdout(File::create(&log).unwrap())
        .debug()
        .start();
    server.err.wait("the fence", |line| line.starts_with("sandbox: writes to the cache directory only"));
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    // New directories, a stale file to replace, a file that breaks off, a small one and a large one.
    fs::write(cache.join("stale.tar.in-progress"), b"old").unwrap();
    for name in ["x.tar", "a/b/c/x.tar", "stale.tar"] {
        server.get(&format!("/{name}")).expect(200, &body);
        server.expect_cached(name, &body);
        server.get(&format!("/{name}")).expect(200, &body);
    }
    server.expect_tree(&["a/b/c/x.tar", "stale.tar", "x.tar"]);
    fs::remove_file(cache.join("x.tar")).unwrap();
    server.get("/x.tar").expect(200, &body);
    assert_eq!(origin.count(), 5);
    wait_until("all lines are in the file", || {
        fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 8)
    });
}

fn a_fenced_server_reads_certificates_names_and_times(io: Io) {
    if !fences() {
        return;
    }
    let identity = Identity::signed("localhost");
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_tls(Arc::clone(&identity.config), |request, reply| {
        reply.serve(request, b"body");
        reply.close();
    });
    let trusted = identity.save(dir.path());
    let server = Launch::new(io, &origin)
        .env("SSL_CERT_FILE", &trusted)
        .env("TZ", "America/New_York")
        .args(["--sandbox", "on"])
        .debug()
        .start();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    // Read again after the fence.
    server.signal(libc::SIGHUP);
    server.err.wait_for("certificate authorities read again");
    server.get("/y.tgz").expect(200, b"body");
    if Path::new("/usr/share/zoneinfo/America/New_York").exists() {
        let line = server.out.wait_for("/y.tgz");
        assert!(line.contains(" -0400]") || line.contains(" -0500]"), "{line}");
    }
}

fn a_fenced_server_writes_to_no_other_directory(io: Io) {
    if !fences() {
        return;
    }
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--sandbox", "on"]).debug().start();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    // The same name, but not the directory that the fence is about.
    fs::rename(server.cache_dir(), server.outside().join("moved")).unwrap();
    fs::create_dir(server.cache_dir()).unwrap();
    server.put("there.tgz", b"put there");
    wait_until("the new directory is read", || server.get("/there.tgz").body == b"put there");
    for _ in 0..3 {
        server.get("/new.tgz").expect(200, b"body");
    }
    server.err.wait_for("not saved - disk error");
    server.expect_tree(&["there.tgz"]);
    // Nor can a removed one be made again.
    fs::remove_dir_all(server.cache_dir()).unwrap();
    server.err.wait("the loss", |line| line.contains("is lost - Permission denied"));
    server.get("/new.tgz").expect(200, b"body");
    assert!(!server.cache_dir().exists());
}

fn by_default_the_fence_leaves_room_for_a_new_cache_directory(io: Io) {
    if !fences() {
        return;
    }
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    assert_eq!(status(&server, "NoNewPrivs"), "1", "no fence");
    // What cold files are read to is open: a fenced process could not open it any more.
    assert_eq!(opens(&server, "/dev/null"), !has_substitutes());
    fs::remove_dir_all(server.cache_dir()).unwrap();
    let mut tries = 0;
    wait_until("files are cached again", || {
        tries += 1;
        server.get(&format!("/{tries}.tgz")).expect(200, b"body");
        (1..=tries).any(|number| server.path(&format!("{number}.tgz")).exists())
    });
    // But not beyond the directory that holds it.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("there.tgz"), b"put there").unwrap();
    fs::rename(server.cache_dir(), server.outside().join("moved")).unwrap();
    symlink(elsewhere.path(), server.cache_dir()).unwrap();
    wait_until("the other directory is read", || server.get("/there.tgz").body == b"put there");
    server.get("/new.tgz").expect(200, b"body");
    server.get("/new.tgz").expect(200, b"body");
    assert_eq!(crate::support::tree(elsewhere.path()), ["there.tgz"]);
}

fn behind_a_link_there_is_no_fence_by_default(io: Io) {
    let origin = Origin::fixed(b"body");
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("cache");
    symlink(dirs[0].path(), &link).unwrap();
    for args in [&[][..], &["--sandbox", "off"]] {
        let server = Launch::new(io, &origin).args(args).cache(&link).start();
        assert_eq!(status(&server, "NoNewPrivs"), "0");
        server.get("/x.tgz").expect(200, b"body");
        server.expect_cached("x.tgz", b"body");
    }
    // A link that leads elsewhere is followed, as ever.
    let server = Launch::new(io, &origin).cache(&link).start();
    fs::remove_file(&link).unwrap();
    symlink(dirs[1].path(), &link).unwrap();
    let mut tries = 0;
    wait_until("files are cached there", || {
        tries += 1;
        server.get(&format!("/{tries}.tgz")).expect(200, b"body");
        (1..=tries).any(|number| dirs[1].path().join(format!("{number}.tgz")).exists())
    });
}

fn a_fence_that_cannot_be_had_is_refused_only_when_demanded(io: Io) {
    let origin = Origin::fixed(b"body");
    let refuse = || Limit::Refuse(libc::SYS_landlock_create_ruleset);
    let server = Launch::new(io, &origin).limit(refuse()).start();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    assert_eq!(server.err.all(), [""; 0]);
    let (status, said) = Launch::new(io, &origin).limit(refuse()).args(["--sandbox", "on"]).fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.starts_with("cannot fence off the cache directory (--sandbox on): "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Are we one who may become another?
fn is_root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        eprintln!("SKIPPED: only root can become another user");
    }
    root
}

fn nobody() -> nix::unistd::User {
    nix::unistd::User::from_name("nobody").unwrap().expect("a user nobody")
}

fn root_becomes_another_user_once_it_listens(io: Io) {
    if !is_root() {
        return;
    }
    let origin = Origin::fixed(b"body");
    let (outside, nobody) = (tempfile::tempdir().unwrap(), nobody());
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let cache = outside.path().join("new");
    // A port that only root may listen on, where that is free, and a directory that is made for it.
    let server = Launch::new(io, &origin).args(["--user", "nobody"]).cache(&cache).debug().start();
    server.err.wait("whom it runs as", |line| line == "running as nobody");
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    assert_eq!(status(&server, "Uid"), [uid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status(&server, "Gid"), [gid; 4].map(|id| id.to_string()).join(" "));
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status(&server, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    let groups = status(&server, "Groups");
    assert!(!groups.split(' ').any(|group| group == "0"), "root's groups: {groups}");
    // Every thread of it.
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let owner = fs::metadata(task.unwrap().path()).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (uid, gid));
    }
    server.get("/dir/x.tgz").expect(200, b"body");
    server.expect_cached("dir/x.tgz", b"body");
    for made in [cache.clone(), cache.join("dir"), cache.join("dir/x.tgz")] {
        let owner = fs::metadata(&made).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (uid, gid), "{made:?}");
    }
    drop(server);
    // A directory of another user is an error at the start.
    chown(&cache, Some(0), Some(0)).unwrap();
    let dir = cache.to_str().unwrap();
    let args = ["-U", "http://127.0.0.1:1", "-H127.0.0.1", "-p0", "-c", dir, "--user=nobody"];
    let output = run_cli(&args, &[], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("cannot use cache directory \"{dir}\" as nobody (--user, --group): Permission denied\n");
    assert_eq!(said, expected);
}

fn a_partial_of_another_user_is_replaced(io: Io) {
    if !is_root() {
        return;
    }
    let origin = Origin::fixed(b"body");
    let (outside, nobody) = (tempfile::tempdir().unwrap(), nobody());
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let cache = outside.path().join("cache");
    fs::create_dir(&cache).unwrap();
    chown(&cache, Some(nobody.uid.as_raw()), None).unwrap();
    for (name, mode) in [("x.tgz", 0o644), ("y.tgz", 0o600)] {
        let partial = cache.join(format!("{name}.in-progress"));
        fs::write(&partial, b"of root").unwrap();
        fs::set_permissions(&partial, Permissions::from_mode(mode)).unwrap();
    }
    let server = Launch::new(io, &origin).args(["--user", "nobody"]).cache(&cache).start();
    for name in ["x.tgz", "y.tgz"] {
        server.get(&format!("/{name}")).expect(200, b"body");
        server.expect_cached(name, b"body");
    }
    server.expect_tree(&["x.tgz", "y.tgz"]);
}

fn a_user_may_be_a_number_and_a_group_another(io: Io) {
    if !is_root() {
        return;
    }
    const USER: u32 = 54_321;
    const GROUP: u32 = 54_322;
    let origin = Origin::fixed(b"body");
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let cache = outside.path().join("cache");
    fs::create_dir(&cache).unwrap();
    chown(&cache, Some(USER), Some(GROUP)).unwrap();
    // The test's own binary may lie where only root can read; it has been opened by then.
    let server = Launch::new(io, &origin)
        .env("FS_CACHE_USER", USER.to_string())
        .env("FS_CACHE_GROUP", GROUP.to_string())
        .cache(&cache)
        .start();
    assert_eq!(status(&server, "Uid"), [USER; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status(&server, "Gid"), [GROUP; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(status(&server, "Groups"), GROUP.to_string());
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    assert_eq!(server.err.all(), [""; 0]);
}

/// The secure bits of the starting process decide whether a change of the user removes them.
fn a_user_that_starts_with_capabilities_keeps_none(io: Io) {
    if !is_root() {
        return;
    }
    let origin = Origin::fixed(b"body");
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let launch = Launch::new(io, &origin).args(["--user", "nobody"]).cache(&outside.path().join("cache"));
    let server = launch.limit(Limit::KeepCapabilities).start();
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status(&server, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(&server, "NoNewPrivs"), "1");
    server.get("/x.tgz").expect(200, b"body");
}

#[test]
fn root_that_names_only_a_group_or_itself_is_refused_in_one_line() {
    if !is_root() {
        return;
    }
    for (args, expected) in [
        (
            ["--group", "54321"],
            "cannot use group \"54321\" (--group): root stays root in any group: add --user USER",
        ),
        (["--user", "0"], "cannot use user \"0\" (--user): root gives up nothing: name another user"),
        (["--user", "root"], "cannot use user \"root\" (--user): root gives up nothing: name another user"),
    ] {
        let output = run_cli(&["-U", "http://127.0.0.1:1", "-H127.0.0.1", "-p0", args[0], args[1]], &[], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{expected}\n"));
    }
}

#[test]
fn users_groups_and_fences_that_do_not_exist_take_one_line() {
    for (args, expected) in [
        (["--user", "no-such-user"], "cannot use user \"no-such-user\" (--user): no user has this name"),
        (
            ["--group", "no such group"],
            "cannot use group \"no such group\" (--group): no group has this name",
        ),
        (
            ["--user", "54321"],
            "cannot use user \"54321\" (--user): a user without an entry needs a group (--group)",
        ),
        (["--sandbox", "yes"], "cannot use sandbox \"yes\" (--sandbox): expected auto, on or off"),
    ] {
        let output = run_cli(&["-U", "http://h", args[0], args[1]], &[], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{expected}\n"));
    }
}
