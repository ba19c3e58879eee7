// The part of tables.py that runs in Java: reads passwords and writes vectors of Spring Security.

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.springframework.security.crypto.bcrypt.BCryptPasswordEncoder;
import org.springframework.security.crypto.password.DelegatingPasswordEncoder;

public class Tables {
    public static void main(String[] arguments) throws Exception {
        String asked = new String(System.in.readAllBytes(), StandardCharsets.US_ASCII);
        List<String> vectors = new ArrayList<>();
        String by = "Spring Security " + DelegatingPasswordEncoder.class.getPackage().getImplementationVersion();
        var encoder = new DelegatingPasswordEncoder("bcrypt", Map.of("bcrypt", new BCryptPasswordEncoder(4)));
        for (String password : strings(asked)) {
            vectors.add("{\"scheme\": \"bcrypt\", \"made_by\": \"" + by + "\", \"password\": " + quoted(password)
                + ", \"hash\": " + quoted(encoder.encode(password)) + "}");
        }
        System.out.write(("[" + String.join(",", vectors) + "]").getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    // The strings of a JSON array in ASCII.
    private static List<String> strings(String json) {
        List<String> all = new ArrayList<>();
        StringBuilder current = null;
        for (int at = 0; at < json.length(); at++) {
            char letter = json.charAt(at);
            if (letter == '"') {
                if (current == null) {
                    current = new StringBuilder();
                } else {
                    all.add(current.toString());
                    current = null;
                }
            } else if (current != null && letter == '\\') {
                at++;
                if (json.charAt(at) == 'u') {
                    current.append((char) Integer.parseInt(json.substring(at + 1, at + 5), 16));
                    at += 4;
                } else {
                    current.append(json.charAt(at));
                }
            } else if (current != null) {
                current.append(letter);
            }
        }
        return all;
    }

    private static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
