-- DEMO ONLY: a typical table, and two users whose passwords are public:
-- ada@example.com analytical-engine, bob@example.com builder-of-things.
USE auth;
CREATE TABLE user (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    email VARCHAR(255) NOT NULL UNIQUE,
    password VARCHAR(255) NOT NULL
);
INSERT INTO user (email, password) VALUES
    ('ada@example.com', '$argon2id$v=19$m=19456,t=2,p=1$l5RRaYLbFXn2GcPzemEh9g$dc01VQGxHXtoSqfIQaEZ4P6rT+OoBroaNfEuqRImizg'),
    ('bob@example.com', '$argon2id$v=19$m=19456,t=2,p=1$bA8eY6ONF00U3Xq6Yg8RTg$hfMh4CsUPB3XXkHY2QTA97CADevGsmbf9F/Pq2qwS9A');
