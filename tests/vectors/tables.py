"""Writes tables.json: hashes as the user tables of well-known software contain them, made by that software.

    python3 -m venv /tmp/vectors
    /tmp/vectors/bin/pip install Werkzeug==2.2.3 Django==4.2.30
    npm install --prefix /tmp/vectors/npm asp-identity-pw@1.1.2 aspnetcore-identity-password-hasher@1.0.1
    mvn dependency:copy -DoutputDirectory=/tmp/vectors/jars -Dartifact=org.springframework.security:spring-security-crypto:6.5.0
    mvn dependency:copy -DoutputDirectory=/tmp/vectors/jars -Dartifact=org.springframework:spring-jcl:6.2.7
    /tmp/vectors/bin/python tests/vectors/tables.py /tmp/vectors WORDPRESS DRUPAL

perl, a crypt(3) with yescrypt, PHP, Node and a JDK must be installed. WORDPRESS is the folder of a WordPress of 6.8 or
later, such as usr/share/wordpress of Debian's package (trixie). DRUPAL is the folder core/lib/Drupal/Core/Password of
Drupal 10.1, in which hashes as Drupal 7 to 9 wrote them are a class of its own. Salts are random, so every run writes
other hashes.
"""

import json, pathlib, subprocess, sys
from importlib.metadata import version

HERE = pathlib.Path(__file__).parent
TOOLS, WORDPRESS, DRUPAL = map(pathlib.Path, sys.argv[1:])
PASSWORDS = ["correct horse", " 'quoted' \"$pa$$\" ", "Grüße, 世界 🔑"]
# Longer than the 72 bytes that bcrypt reads.
LONG = "0123456789" * 7 + "abc"

vectors = []


def add(scheme, made_by, password, made):
    vectors.append({"scheme": scheme, "made_by": made_by, "password": password, "hash": made})


def foreign(command, asked):
    ran = subprocess.run(command, check=True, capture_output=True, text=True, input=json.dumps(asked))
    vectors.extend(json.loads(ran.stdout))


def werkzeug():
    from werkzeug.security import generate_password_hash as generate

    by = f"Werkzeug {version('Werkzeug')}"
    for password in PASSWORDS:
        for digest in ("sha1", "sha224", "sha256", "sha384", "sha512"):
            add("salted-sha", by, password, generate(password, digest))
    add("salted-sha", by, PASSWORDS[0], generate(PASSWORDS[0], "sha256", salt_length=8))


def django():
    from django.conf import settings
    from django.contrib.auth.hashers import SHA1PasswordHasher

    settings.configure()
    hasher = SHA1PasswordHasher()
    for password in PASSWORDS:
        add("salted-sha", f"Django {version('Django')}", password, hasher.encode(password, hasher.salt()))
    # As Django 1.0 chose salts.
    add("salted-sha", f"Django {version('Django')}", PASSWORDS[0], hasher.encode(PASSWORDS[0], "a1976"))


def crypt():
    by = "crypt of perl " + subprocess.check_output(["perl", "-e", "print $^V"], text=True)
    for password in [*PASSWORDS, LONG]:
        # N = 256 to 4096, r = 8 and 32, as libxcrypt's costs 1 to 5 have them; salts of 1, 8, 16 and 18 bytes.
        for setting in ("$y$j75$.1$", "$y$j85$abcdefgh9.0$", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$", "$y$j75$abcdefghijklmnopqrstuvwx$"):
            run = ["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, setting]
            add("yescrypt", by, password, subprocess.check_output(run, text=True))


def php():
    foreign(["php", HERE / "tables.php", WORDPRESS, DRUPAL], PASSWORDS + [LONG])


def node():
    foreign(["node", HERE / "tables.js", TOOLS / "npm/node_modules"], PASSWORDS)


def java():
    jars = ":".join(str(jar) for jar in (TOOLS / "jars").glob("*.jar"))
    foreign(["java", "-cp", jars, HERE / "Tables.java"], PASSWORDS)


for write in (werkzeug, django, crypt, php, node, java):
    write()
# From PasswordHasherTest.cs of ASP.NET Core.
add(
    "pbkdf2",
    "the tests of ASP.NET Core",
    "my password",
    "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg+yWU7rLgUwPZb1Itsmra7cbxw2EFpwpVFIEtP+JIuUEw==",
)
lines = ",\n".join("  " + json.dumps(vector, ensure_ascii=False) for vector in vectors)
(HERE / "tables.json").write_text(f"[\n{lines}\n]\n")
