<?php
// The part of tables.py that runs in PHP: reads passwords and writes vectors of WordPress and Drupal.

namespace Drupal\Core\Password {
    interface PasswordInterface
    {
        const PASSWORD_MAX_LENGTH = 512;
    }

    require $argv[2] . '/PhpassHashedPasswordBase.php';

    // Drupal's own function no longer writes such hashes, so this class calls the function that it used.
    class Writing extends PhpassHashedPasswordBase implements PasswordInterface
    {
        public function __construct()
        {
        }

        public function write(string $password, string $cost): string
        {
            $salt = $this->base64Encode(random_bytes(6), 6);
            return $this->crypt('sha512', $password, '$S$' . $cost . $salt);
        }
    }
}

namespace {
    // The parts of WordPress that these functions need.
    define('ABSPATH', $argv[1] . '/');
    define('WPINC', 'wp-includes');
    function apply_filters(string $name, mixed $value): mixed
    {
        return $name === 'wp_hash_password_options' ? ['cost' => 4] : $value;
    }
    require ABSPATH . 'wp-includes/version.php';
    require ABSPATH . 'wp-includes/pluggable.php';

    $vectors = [];
    $drupal = new Drupal\Core\Password\Writing();
    foreach (json_decode(stream_get_contents(STDIN), true) as $password) {
        // WordPress removes blanks at the ends before it hashes, and does not when it checks.
        $vectors[] = [
            'scheme' => 'bcrypt-sha384',
            'made_by' => "WordPress $wp_version",
            'password' => trim($password),
            'hash' => wp_hash_password($password),
        ];
        // 2^7 and 2^9 rounds; Drupal's default is 2^16.
        foreach (['5', '7'] as $cost) {
            $vectors[] = [
                'scheme' => 'drupal',
                'made_by' => 'PhpassHashedPasswordBase of Drupal',
                'password' => $password,
                'hash' => $drupal->write($password, $cost),
            ];
        }
    }
    echo json_encode($vectors, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE);
}
