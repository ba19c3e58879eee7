<?php
// The part of passwords.py that runs in PHP: reads passwords and writes vectors.

$passwords = json_decode(stream_get_contents(STDIN), true);
$vectors = [];
$add = function (string $scheme, string $by, string $password, string $hash) use (&$vectors): void {
    $by = 'PHP ' . PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION . '.' . PHP_RELEASE_VERSION . " $by";
    $vectors[] = ['scheme' => $scheme, 'made_by' => $by, 'password' => $password, 'hash' => $hash];
};
$salt = fn(int $length): string => substr(strtr(base64_encode(random_bytes(24)), '+', '.'), 0, $length);
$argon2 = ['memory_cost' => 64, 'time_cost' => 1, 'threads' => 1];

foreach ([...$passwords['any'], ...$passwords['bcrypt']] as $password) {
    $add('bcrypt', 'password_hash', $password, password_hash($password, PASSWORD_BCRYPT, ['cost' => 4]));
}
foreach ($passwords['any'] as $password) {
    $add('argon2i', 'password_hash', $password, password_hash($password, PASSWORD_ARGON2I, $argon2));
    $add('argon2id', 'password_hash', $password, password_hash($password, PASSWORD_ARGON2ID, $argon2));
    $add('sha256-crypt', 'crypt', $password, crypt($password, '$5$rounds=1000$' . $salt(16) . '$'));
    $add('sha512-crypt', 'crypt', $password, crypt($password, '$6$rounds=1001$' . $salt(7) . '$'));
    $add('md5-crypt', 'crypt', $password, crypt($password, '$1$' . $salt(8) . '$'));
}
// PHP's defaults: 64 MiB, four passes.
$add('argon2id', 'password_hash', $passwords['any'][0], password_hash($passwords['any'][0], PASSWORD_ARGON2ID));
echo json_encode($vectors, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
