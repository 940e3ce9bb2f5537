// What applications in Java see of each target, one a line: by java.net.URI, and by the rules of servlets.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;

class Readings {
    /** Jakarta Servlet 6.0 §3.5.2: what is done to each segment of a path, in this order. */
    private static final List<Function<String, String>> TO_EACH_SEGMENT = List.of(
            // Parameters are no part of the path.
            segment -> segment.split(";", 2)[0],
            // A plus is a plus in a path.
            segment -> URLDecoder.decode(segment.replace("+", "%2B"), StandardCharsets.UTF_8));

    public static void main(String[] arguments) throws IOException {
        var answers = new StringBuilder();
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String target = lines.readLine(); target != null; target = lines.readLine()) {
            answers.append("{\"java.net.URI\": ").append(uri(target));
            answers.append(", \"servlets\": ").append(servlet(target)).append("}\n");
        }
        System.out.write(answers.toString().getBytes(StandardCharsets.UTF_8));
        System.out.flush();
    }

    private static String uri(String target) {
        try {
            var uri = new URI(target);
            return reading(uri.getPath(), uri.getRawQuery(), uri.getRawAuthority() != null);
        } catch (URISyntaxException refused) {
            return "null";
        }
    }

    private static String servlet(String target) {
        var parts = target.split("\\?", 2);
        var segments = Arrays.stream(parts[0].substring(1).split("/", -1)).map(segment -> {
            for (var step : TO_EACH_SEGMENT) {
                segment = step.apply(segment);
            }
            return segment;
        }).toList();
        var path = new ArrayDeque<String>();
        for (int at = 0; at < segments.size(); at++) {
            var segment = segments.get(at);
            var isLast = at + 1 == segments.size();
            if (segment.equals("..")) {
                path.pollLast();
            } else if (!segment.isEmpty() && !segment.equals(".") || isLast) {
                path.add(segment.equals(".") ? "" : segment);
            }
        }
        return reading("/" + String.join("/", path), parts.length > 1 ? parts[1] : null, false);
    }

    private static String reading(String path, String query, boolean elsewhere) {
        return "{\"path\": " + quoted(path) + ", \"query\": " + quoted(query == null ? "" : query)
                + ", \"elsewhere\": " + elsewhere + "}";
    }

    private static String quoted(String text) {
        return text.chars()
                .mapToObj(unit -> unit < 0x20 || unit > 0x7e || unit == '"' || unit == '\\'
                        ? String.format("\\u%04x", unit)
                        : String.valueOf((char) unit))
                .collect(Collectors.joining("", "\"", "\""));
    }
}
