#!/usr/bin/env python3
"""Muster's emergency reader: gets files back from a share and a kit when Muster's own programs are lost.
Needs Python 3.9 on Linux and the programs age, zstd, openssl 3. It follows the chain of docs/format.md: root key, log,
manifest, receipts, pack lists, indexes, packs. It only reads the share, decrypts only what the chain names, and writes
only below DIR. ROUND: latest, a number, or how an id begins. PATH: SOURCE/PATH, or a path within sources. Exit codes: 0
done, 1 failed, 2 usage, 3 things are missing, 4 damaged or forged, 5 key missing or wrong, 6 share not readable."""
import argparse, base64, contextlib, functools, hashlib, io, os, pathlib, re, resource, shutil, signal, stat
import subprocess, sys, tempfile
SIZES = dict(zip([*range(0xc4, 0xc7), *range(0xcc, 0xd4), *range(0xd9, 0xe0)], map(int, "124" "12481248" "1242424")))
KINDS = "genesis keyset roster config hold adopt epoch open commit verified end prune sweep pruned audit".split()
NODES = {"fifo": stat.S_IFIFO, "char-device": stat.S_IFCHR, "block-device": stat.S_IFBLK}
HINTS = {4: "; look for another copy of the share", 5: "; take this fleet's kit", 6: "; mend the access to the share"}
MALFORMED = ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError
MIB, join, codes, job = 1 << 20, os.path.join, {0}, argparse.Namespace(met=False)   # codes: of all that was told
class Trouble(Exception): pass                           # an exit code, and the object with the cause
def tell(code, text):
    codes.add(code)
    print("emergency:", show(os.fsencode(text)) + HINTS.get(code, ""), file=sys.stderr)
@contextlib.contextmanager
def telling(of="", code=1):                              # what fails within; what is malformed was read last
    try: yield
    except Trouble as e: tell(e.args[0], of + e.args[1])
    except MALFORMED as e: tell(4, f"{of}{job.object}: {e if type(e) is ValueError else 'malformed: ' + repr(e)}")
    except OSError as e: tell(code, f"{of}{e.strerror} {os.fsdecode(e.filename or '')}".rstrip())
def check(good, why="breaks a rule of format.md"):
    if not good: raise ValueError(why)
def show(raw): return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in raw.decode("utf-8", "backslashreplace"))
def name(text): return re.fullmatch("[a-z][a-z0-9-]{0,31}", text)[0]
def sha256(data): return hashlib.sha256(data).digest()
def variant(value): return (value, {}) if isinstance(value, str) else [*value.items()][0]   # an enum: (name, content)
def parse(f, depth=0):                                   # MessagePack; a KeyError for 0xc1, floats and extensions
    t = f.read(1)[0]
    if t < 0x80 or t >= 0xe0: return t if t < 0x80 else t - 256
    if t in (0xc0, 0xc2, 0xc3): return {0xc0: None, 0xc2: False, 0xc3: True}[t]
    n = int.from_bytes(f.read(SIZES[t]), "big", signed=t >> 2 == 52) if t >= 0xc0 else t & 31 if t >= 0xa0 else t & 15
    if 0xcc <= t <= 0xd3: return n
    check(n <= f.getbuffer().nbytes - f.tell() and depth < 16, "cut off, or nested too deep")
    if 0xa0 <= t < 0xdc: return f.read(n) if 0xc0 <= t < 0xd9 else f.read(n).decode()
    if t in (0xdc, 0xdd) or 0x90 <= t < 0xa0: return [parse(f, depth + 1) for _ in range(n)]
    return {parse(f, depth + 1): parse(f, depth + 1) for _ in range(n)}
def decode(data):
    value, more = parse(f := io.BytesIO(data)), f.read(1)
    return value if isinstance(value, dict) and not more else check(False, "not one map")
def plain(path): return open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK))  # no pipe waits
def read(path, *what):                                   # what: the SHA-256 and the length that it must have
    check(not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode), setattr(job, "object", path) or "no file")
    try: data = plain(path).read(320 * MIB)
    except OSError as e: raise Trouble(4 if isinstance(e, FileNotFoundError) else 6, f"{path}: {e.strerror}")
    check(what in ((), (sha256(data), len(data))), "damaged: its length or hash is not as signed")
    return data
def tool(*command, **files):                             # runs in the work folder, on these files
    for file, data in files.items(): pathlib.Path(job.work, file).write_bytes(data)
    return subprocess.run(command, cwd=job.work, stdin=subprocess.DEVNULL, capture_output=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (320 * MIB, 320 * MIB)))
def envelope(data, domain):                              # (type, version, key id, fields), if its signature holds
    parts = [f.read(int.from_bytes(f.read(4), "big")) for f in [io.BytesIO(data[:-64])] for _ in range(6)]
    check(b"".join(len(part).to_bytes(4, "big") + part for part in parts) == data[:-64], "no envelope")
    check((parts[0], parts[3]) == (domain, job.fleet), "not of the fleet in FORMAT")
    done = tool(*"openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in text -sigfile signature".split(),
                key=bytes.fromhex("302a300506032b6570032100") + parts[4], text=data[:-64], signature=data[-64:])
    check(done.returncode == 0, f"its signature does not hold: openssl: {(done.stdout + done.stderr)[:80]!r}")
    return parts[1].decode(), int.from_bytes(parts[2], "big"), parts[4], decode(parts[5])

class Log:                                               # replayed as format.md says, but for rules that only order
    def __init__(self):                                  # honest writers: of rounds that overlap, of prune and hold
        self.members, self.revoked, self.keysets, self.last, self.rounds, self.epoch = {}, set(), set(), {}, {}, (0, 0)
        head, void, self.heads, folder = {"number": 0, "hash": bytes(32)}, "", [None], join(job.share, "log")
        slots = sorted({0}.union(int(name) for name in os.listdir(folder) if re.fullmatch(r"\d{10}", name)))
        free = next((i for i, n in enumerate(slots) if i != n), len(slots))
        for n in slots[:free + 64]:                      # above a free slot only a member's record proves a loss
            try:
                kind, version, key, record = envelope(data := read(join(folder, f"{n:010}")), b"muster.log")
                check(record["number"] == n and len(data) <= 65536)
                if n > 0: check(self.role(key) not in (None, "agent", "viewer"), "not by a member that may append")
                else: check(kind == "genesis" and sha256(key + decode(record["body"])["salt"]) == job.fleet)
            except MALFORMED as e:
                void = void or f", and {job.object} is void: {e}" if n else check(False, e)
                continue
            if n > free: raise Trouble(4, f"{join(folder, f'{free:010}')}: gone, while record {n} is there")
            if n == 0 and key != job.root: raise Trouble(5, "root.pub: not the root key of this share")
            check(record["previous"] == head, f"does not follow record {head['number']}{void}")
            if record["critical"] and (version, kind in KINDS) != (1, True): raise Trouble(1, f"{job.object}: too new")
            head, void = {"number": n, "hash": sha256(data)}, self.heads.append(f"{n}:{sha256(data).hex()}") or ""
            with contextlib.suppress(*MALFORMED): check(version == 1) or self.apply(n, kind, key, record["body"])
        if job.expect_head not in self.heads: raise Trouble(4, f"{folder}: does not reach --expect-head")
        if void: tell(4 * (head["number"] + 1 < free), f"{folder}: later ones may be lost{void}; head {self.heads[-1]}")
    def role(self, key): return "root" if key == job.root else self.members.get(key, [None])[0]
    def apply(self, n, kind, key, data):                 # does what record n says; nothing, when that breaks a rule
        if kind in ("keyset", "roster"):
            what, version, key, body = envelope(data, b"muster.statement")
            check(self.role(key) == "root" or (self.role(key), kind) == ("enroller", "roster"))
            check((what, version, body["previous"]) == (kind, 1, self.last.get(kind)))
            self.change(n, key, body["changes"]) if kind == "roster" else self.keysets.add(body["keys"][0] and n)
            return self.last.update({kind: sha256(data)})
        body, coordinator = decode(data), self.role(key) == "coordinator"
        known, leads = self.rounds.get(body.get("round")), coordinator and self.epoch == (body.get("epoch"), key)
        if kind == "epoch" and coordinator and body["epoch"] == self.epoch[0] + 1: self.epoch = (body["epoch"], key)
        elif kind == "open" and leads and not known and body["number"] == len(self.rounds) + 1:
            self.rounds[body["round"]] = {**body, "state": "open"}
        elif kind in ("commit", "end") and leads and known["state"] == "open":
            known.update(body, state=kind, at=n, members=self.members)
        elif kind == "sweep" and self.role(key) == "pruner":
            for swept in [self.rounds[r] for r in body["rounds"]]: swept["state"] = kind
    def change(self, n, signer, changes):                # the roster
        members, revoked, rights = dict(self.members), set(self.revoked), self.members.get(signer, [None, None])[1]
        agents = {may["service"]: key for key, (role, may) in members.items() if role == "agent"}
        for what, member in map(variant, changes):
            key, (role, may) = (member, (None, {})) if what == "revoke" else (member["key"], variant(member["role"]))
            was, service = members.get(key), may.get("service")
            check(what == "revoke" or key not in revoked and (not was or was[1].get("service") == service))
            check(signer == job.root or service.startswith(rights["prefix"]) and n <= (rights["until"] or n)
                  and not was and service not in agents)
            gone = agents.get(service, key) if what == "admit" else key   # a new agent revokes the one before it
            if members.pop(gone, None) and (what == "revoke" or gone != key): revoked.add(gone)
            if what == "admit": members[key] = (role, may)
            if service: agents[service] = key
        self.members, self.revoked = members, revoked

def unseal(data, context):                               # the content of the sealed object that was read, as a file
    stanzas = re.findall(rb"^->(?! X25519 ).*", data[:65536].partition(b"\n---")[0], re.M)
    check(stanzas == [context], "sealed for another service, fleet or keyset")
    age = tool("age", "-d", "-o", "opened", "-i", join(job.kit, "recovery.key"), "sealed", sealed=data)
    if re.search(b"identit|secret key", age.stderr): raise Trouble(5, f"recovery.key: does not open {job.object}")
    zstd = tool("zstd", "-dqf", "opened", "-o", "plain")
    check(age.returncode == 0 and zstd.returncode == 0, "does not open with age and zstd")
    plain = open(join(job.work, "plain"), "rb")
    os.unlink(plain.name)                                # gone as soon as it is closed
    return plain
def fill(f, extents, size, open_pack):
    for kind, x in map(variant, extents):
        if kind == "hole": f.seek(x["length"], os.SEEK_CUR)
        elif f.write(os.pread(open_pack(x["pack"]).fileno(), x["length"], x["offset"])) != x["length"]: check(False)
    check(f.truncate() == size and f.seek(0) == 0, "extents do not add up")
def split(path):
    parts = tuple(path.split(b"/")) if path else ()
    return check(not {b"", b".", b".."} & {*parts} and b"\0" not in path, f"unsafe path {show(path)}") or parts
def entries(source, stream):                             # (path's parts, entry): each in a folder that came before,
    last, above, within = None, [], split(os.fsencode(job.path or "").strip(b"/"))      # never behind a link
    wanted = [within] + [within[1:]] * (within[:1] == (source["name"].encode(),))
    for _ in range(source["entries"]):
        job.object, size = "its list of entries", int.from_bytes(stream.read(4), "big")
        e = decode(stream.read(size if size <= 16 * MIB else 0))
        parts, folder, gap = split(e["path"]), e["kind"] == "directory", variant(e.get("gap") or "")[0]
        while above and parts[:len(above[-1])] != above[-1]: above.pop()
        check(parts[:-1] == above[-1] and last < parts if above else folder and not parts, f"stray {show(e['path'])}")
        e["made"] = gap in ("", "changed", "attributes") or folder and (gap == "unreadable" or not parts)
        last, above = parts, above + [parts] * (folder and e["made"])
        job.met |= any(parts[:len(w)] == w for w in wanted)
        if any(parts[:len(w)] == w or w[:len(parts)] == parts for w in wanted): yield parts, e
def enter(top, parts):                                   # goes to a path's folder, never through a link; its last name
    os.chdir(top)
    for part in parts[:-1]: check(stat.S_ISDIR(os.lstat(part).st_mode), "is behind a link") or os.chdir(part)
    return parts[-1] if parts else b"."
def finish(top, parts, e):                               # owner, attributes, mode, time: each may undo a later one
    file, when = enter(top, parts), e["mtime_secs"] * 10**9 + e.get("mtime_nanos", 0)
    if (root := os.geteuid() == 0): os.chown(file, e.get("uid", 0), e.get("gid", 0), follow_symlinks=False)
    for key, value in e.get("xattrs", []):
        with telling(f"{show(key)} of ", 3): os.setxattr(file, key, value, follow_symlinks=False)
    if e["kind"] != "symlink": os.chmod(file, e["mode"] & (0o7777 if root else 0o1777))
    os.utime(file, ns=(when, when), follow_symlinks=False)
def restore(label, source, stream, open_pack):
    top, folders = join(job.into, label), []
    if not job.list: os.makedirs(top, 0o700)
    for parts, e in entries(source, stream):
        what, kind, link = f"{label}/{show(e['path'])}", e["kind"], e.get("hard_link")
        if e.get("gap"): tell(3, f"{what}: incomplete since the backup: {e['gap']}")
        if job.list: print(f"{kind:12} {e['mode']:04o} {e.get('size', 0):12} {what}")
        with telling(f"{what}: ", 3):
            if job.list or not e["made"]: continue
            file, target = enter(top, parts), join(os.fsencode(top), *split(link or b""))
            if link: check(os.path.realpath(target) == target, "its link leads off") or os.link(target, file)
            elif kind == "file":
                with open(join(job.work, "file"), "wb") as f: fill(f, e.get("extents", []), e.get("size", 0), open_pack)
                os.rename(f.name, file)
            elif kind == "symlink": os.symlink(e["target"], file)
            elif kind in NODES: os.mknod(file, NODES[kind] | 0o600, os.makedev(*(e.get("device") or (0, 0))))
            elif check(kind == "directory", "of an unknown kind") or parts: os.mkdir(file, 0o700)
            if kind == "directory": folders.append((what, parts, e))
            elif not link: finish(top, parts, e)
    for what, parts, e in reversed(folders):
        with telling(f"{what}: ", 3): finish(top, parts, e)

def recover(log, rnd, part):                           # the service that this part of the manifest names
    if not part: raise Trouble(3, "not in this round; try an older one")
    service, home = name(part["service"]), join(job.share, "agents", part["service"])
    def get(ref, end): return read(f"{home}/slices/{ref['round'].hex()}/{ref['id'].hex()}{end}", ref["id"], ref["size"])
    data = get({"round": rnd["round"], "id": part["receipt"], "size": part["receipt_size"]}, ".receipt")
    what, version, key, receipt = envelope(data, b"muster.share")
    agent_of = rnd["members"][key][1]["service"]
    nonce = sha256(b"muster attempt\0" + rnd["nonce"] + receipt["attempt"].to_bytes(4, "big") + service.encode())[:16]
    check((what, version, key, agent_of) == ("receipt", 1, part["agent"], service) and receipt["keyset"] in log.keysets)
    check((receipt["service"], receipt["round"], receipt["nonce"]) == (service, rnd["round"], nonce), "another attempt")
    packs, context = {}, f"-> muster-context 1 {job.fleet.hex()} {service} {receipt['keyset']}".encode()
    for number, *pack in [pack for ref in receipt["packs"] for pack in decode(get(ref, ".packs"))["packs"]]:
        packs[number] = pack if packs.get(number, pack) == pack else ()    # one that stands for two stands for neither
    index = decode(unseal(get(receipt["index"], ".index"), context).read(64 * MIB))
    check((index["version"], index["service"], index["round"]) == (1, service, rnd["round"]), "of something else")
    @functools.lru_cache(maxsize=32)                     # so many decrypted packs lie in the work folder at a time
    def open_pack(number):
        digest, size = packs[number]
        return unseal(read(f"{home}/packs/{digest.hex()[:2]}/{digest.hex()}.age", digest, size), context)
    with open(join(job.work, "entries"), "w+b") as stream:
        fill(stream, index["entries"], index["entries_bytes"], open_pack)
        for source in index["sources"]: restore(join(service, name(source["name"])), source, stream, open_pack)
    print(f"{service}: {index['totals']['entries']} entries, {index['totals']['source_bytes']} bytes", flush=True)
def run():
    if not all(map(shutil.which, ("age", "zstd", "openssl"))): raise Trouble(1, "age, zstd or openssl: not installed")
    try:
        pem, _ = pathlib.Path(job.kit, "root.pub").read_text(), pathlib.Path(job.kit, "recovery.key").read_text()
        job.root = base64.b64decode(re.search("MCowBQYDK2VwAyEA([+/0-9A-Za-z]{43}=)", pem)[1])
    except (OSError, *MALFORMED): raise Trouble(5, f"{job.kit}: root.pub or recovery.key is missing, or is no key")
    job.object = join(job.share, "FORMAT")
    line = re.fullmatch(r"muster (\d+) ([0-9a-f]{64})\n", plain(job.object).read(256).decode())
    if line[1] != "0": raise Trouble(1, f"{job.object}: version {line[1]}; take the script of a newer kit")
    job.fleet = bytes.fromhex(line[2])
    log = Log()
    rounds = sorted((r for r in log.rounds.values() if r["state"] == "commit"), key=lambda r: r["at"])
    found = rounds[-1:] if job.round in (None, "latest") else [r for r in rounds if str(r["number"]) == job.round] \
        or [r for r in rounds if r["round"].hex().startswith(job.round)]
    if len(found) != 1: raise Trouble(2, f"--round {job.round}: not one of {[r['number'] for r in rounds]}")
    found = found[0]
    print(f"round {found['number']} ({found['round'].hex()}), {found['outcome']}; log head {log.heads[-1]}", flush=True)
    data = read(f"{job.share}/manifests/{found['manifest'].hex()}", found["manifest"], found["manifest_size"])
    what, version, key, manifest = envelope(data, b"muster.share")
    check((what, version, found["members"].get(key, [None])[0]) == ("manifest", 1, "coordinator"), "no coordinator's")
    check(all(manifest[field] == found[field] for field in ("round", "number", "outcome"))
          and manifest["keyset"] in log.keysets and manifest["keyset"] < found["at"], "not of this round")
    parts = {part["service"]: part for part in manifest["slices"]}
    services = {may["service"] for role, may in log.members.values() if role == "agent"} | {*parts}
    if job.service not in {None, *services}: raise Trouble(2, f"--service {job.service}: not one of {sorted(services)}")
    for service in sorted(services) if job.service is None else [job.service]:
        with telling(f"{service}: "): recover(log, found, parts.get(service))
    if not job.met and codes == {0}: tell(2, f"--path {job.path}: nothing lies there in this round")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in "share kit service round path expect-head into".split(): parser.add_argument("--" + option)
    parser.add_argument("--list", action="store_true", help="show what the round holds, write nothing")
    parser.parse_args(namespace=job)
    if not (job.share and job.kit and (job.into or job.list)): parser.error("--share, --kit and --into are needed")
    job.share, job.kit, job.into = (os.path.realpath(path or "") for path in (job.share, job.kit, job.into))
    if not job.list and join(job.into, "").startswith(join(job.share, "")): parser.error("--into lies in the share")
    for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: sys.exit(130))
    os.umask(0o077)
    with telling("--into: ", 2):
        if not job.list: os.makedirs(job.into, exist_ok=True)
        if not job.list and os.listdir(job.into): raise Trouble(2, f"{job.into} is not empty; name a new folder")
        work = tempfile.TemporaryDirectory(prefix=".emergency-", dir=None if job.list else job.into)
        with telling(code=6), work as job.work: run()
    sys.exit(max(codes, key=[0, 3, 1, 2, 4, 5, 6].index))
