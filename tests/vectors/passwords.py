"""Writes passwords.json: hashes made by the libraries whose hashes Doorward verifies.

    python3 -m venv /tmp/vectors
    /tmp/vectors/bin/pip install passlib==1.7.4 bcrypt==4.3.0 argon2-cffi==25.1.0 Django==5.2.19 Werkzeug==3.1.9
    /tmp/vectors/bin/python tests/vectors/passwords.py

PHP must be installed for passwords.php. Salts are random, so every run writes other hashes.
passlib 1.7.4 does not work with bcrypt 5.
"""

import hashlib, json, os, pathlib, platform, subprocess, warnings
from base64 import b64encode
from importlib.metadata import version

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent

PLAIN, SPACED, FOREIGN = "correct horse", " 'quoted' \"$pa$$\" ", "Grüße, 世界 🔑"
PASSWORDS = [PLAIN, SPACED, FOREIGN]
B72, B73 = "0123456789" * 7 + "ab", "0123456789" * 7 + "abc"
UMLAUTS72 = "ä" * 36

vectors = []


def add(scheme, made_by, password, made):
    vectors.append({"scheme": scheme, "made_by": made_by, "password": password, "hash": made})


def argon2_cffi():
    import argon2

    by = f"argon2-cffi {version('argon2-cffi')}"
    for password in PASSWORDS:
        for kind in (argon2.Type.ID, argon2.Type.I, argon2.Type.D):
            made = argon2.PasswordHasher(2, 64, 1, type=kind).hash(password)
            add(f"argon2{kind.name.lower()}", by, password, made)
    add("argon2id", by, PLAIN, argon2.PasswordHasher(1, 256, 4, hash_len=64, salt_len=8).hash(PLAIN))
    add("argon2id", by, PLAIN, argon2.PasswordHasher(2, 19456, 1).hash(PLAIN))
    # Lengths that libargon2 accepts and the PHC string format does not.
    for salt_len, hash_len in [(8, 4), (64, 32), (16, 128), (100, 300)]:
        hasher = argon2.PasswordHasher(1, 64, 1, hash_len=hash_len, salt_len=salt_len)
        add("argon2id", by, PLAIN, hasher.hash(PLAIN))
    # Version 0x10, with and without its field.
    old = argon2.low_level.hash_secret(PLAIN.encode(), os.urandom(16), 2, 64, 1, 32, argon2.Type.I, version=16).decode()
    add("argon2i", by, PLAIN, old)
    add("argon2i", by + ", field v removed", PLAIN, old.replace("$v=16", ""))


def pyca_bcrypt():
    import bcrypt

    by = f"bcrypt {version('bcrypt')}"
    for password in [*PASSWORDS, B72, UMLAUTS72]:
        for prefix in (b"2a", b"2b"):
            add("bcrypt", by, password, bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix)).decode())


def passlib():
    from passlib import hash as known

    by = f"passlib {version('passlib')}"
    for password in PASSWORDS:
        for scheme, handler in {
            "argon2id": known.argon2.using(type="ID", rounds=1, memory_cost=64, parallelism=2),
            "bcrypt": known.bcrypt.using(rounds=4, ident="2y"),
            "scrypt": known.scrypt.using(rounds=5, block_size=8, parallelism=2),
            "sha256-crypt": known.sha256_crypt.using(rounds=1000),
            "sha512-crypt": known.sha512_crypt.using(rounds=1000),
        }.items():
            add(scheme, by, password, handler.hash(password))
        for scheme, handlers in {
            "bcrypt-sha256": [known.bcrypt_sha256.using(rounds=4), known.bcrypt_sha256.using(rounds=4, version=1)],
            "pbkdf2": [
                known.pbkdf2_sha1.using(rounds=7),
                known.pbkdf2_sha256.using(rounds=29),
                known.pbkdf2_sha512.using(rounds=1, salt_size=9),
            ],
            "md5-crypt": [known.md5_crypt, known.apr_md5_crypt, known.md5_crypt.using(salt_size=2)],
            "phpass": [known.phpass.using(rounds=7), known.phpass.using(rounds=8, ident="H")],
            "ldap-sha": [
                known.ldap_sha1,
                known.ldap_salted_sha1,
                known.ldap_salted_sha1.using(salt_size=16),
                known.ldap_salted_sha256,
                known.ldap_salted_sha512,
            ],
        }.items():
            for handler in handlers:
                add(scheme, by, password, handler.hash(password))
    for salt_size in (0, 1, 4, 64):
        add("scrypt", by, PLAIN, known.scrypt.using(rounds=5, block_size=8, parallelism=1, salt_size=salt_size).hash(PLAIN))
    # The rounds are omitted if they are 5000.
    add("sha256-crypt", by, PLAIN, known.sha256_crypt.using(rounds=5000).hash(PLAIN))
    add("sha512-crypt", by, FOREIGN, known.sha512_crypt.using(rounds=5000, salt="short").hash(FOREIGN))
    add("sha512-crypt", by, PLAIN, known.ldap_sha512_crypt.using(rounds=1000).hash(PLAIN))
    add("md5-crypt", by, PLAIN, known.ldap_md5_crypt.hash(PLAIN))
    add("bcrypt", by, PLAIN, known.ldap_bcrypt.using(rounds=4).hash(PLAIN))
    for length in range(1, 40):
        password = "x" * length
        add("md5-crypt", by, password, known.md5_crypt.hash(password))
    add("bcrypt-sha256", by, B73, known.bcrypt_sha256.using(rounds=4).hash(B73))
    add("sha512-crypt", by, "y" * 200, known.sha512_crypt.using(rounds=1000).hash("y" * 200))


def django():
    from django.conf import settings
    from django.contrib.auth import hashers

    settings.configure()
    by = f"Django {version('Django')}"

    def cheap(base, **cost):
        return type(base.__name__, (base,), cost)()

    for password in PASSWORDS:
        for scheme, made in {
            "pbkdf2": [
                cheap(hashers.PBKDF2PasswordHasher, iterations=20),
                cheap(hashers.PBKDF2SHA1PasswordHasher, iterations=20),
            ],
            "argon2id": [cheap(hashers.Argon2PasswordHasher, time_cost=1, memory_cost=64, parallelism=2)],
            "bcrypt-sha256": [cheap(hashers.BCryptSHA256PasswordHasher, rounds=4)],
            "bcrypt": [cheap(hashers.BCryptPasswordHasher, rounds=4)],
            "scrypt": [cheap(hashers.ScryptPasswordHasher, work_factor=32, parallelism=2)],
        }.items():
            for hasher in made:
                add(scheme, by, password, hasher.encode(password, hasher.salt()))
    hasher = cheap(hashers.BCryptSHA256PasswordHasher, rounds=4)
    add("bcrypt-sha256", by, B73, hasher.encode(B73, hasher.salt()))


def werkzeug():
    from werkzeug.security import generate_password_hash as generate

    by = f"Werkzeug {version('Werkzeug')}"
    for password in PASSWORDS:
        add("scrypt", by, password, generate(password, "scrypt:128:8:1"))
        for digest in ("sha1", "sha256", "sha512"):
            add("pbkdf2", by, password, generate(password, f"pbkdf2:{digest}:20"))


def standard_library():
    """Forms that no library at hand writes; the digests are Python's."""
    by = f"hashlib of Python {platform.python_version()}, written down by passwords.py"
    bare = lambda data: b64encode(data).decode().rstrip("=")
    for password in PASSWORDS:
        secret, salt = password.encode(), os.urandom(16)
        for digest, length, param in [
            ("sha256", 32, ",l=32"),
            ("sha512", 64, ",l=64"),
            ("sha512", 32, ",l=32"),
            ("sha256", 32, ""),
            ("sha1", 20, ""),
        ]:
            made = hashlib.pbkdf2_hmac(digest, secret, salt, 20, length)
            add("pbkdf2", by, password, f"$pbkdf2-{digest}$i=20{param}${bare(salt)}${bare(made)}")
        for digest in ("sha256", "sha512"):
            made = b64encode(hashlib.new(digest, secret).digest()).decode()
            add("ldap-sha", by, password, f"{{{digest.upper()}}}{made}")


def php():
    made = subprocess.run(["php", HERE / "passwords.php"], check=True, capture_output=True, text=True,
                          input=json.dumps({"any": PASSWORDS, "bcrypt": [B72, UMLAUTS72]}))
    vectors.extend(json.loads(made.stdout))


for write in (argon2_cffi, pyca_bcrypt, passlib, django, werkzeug, standard_library, php):
    write()
lines = ",\n".join("  " + json.dumps(vector, ensure_ascii=False) for vector in vectors)
(HERE / "passwords.json").write_text(f"[\n{lines}\n]\n")
