import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.zip.GZIPOutputStream;

/** An application as the JDK's own HTTP server has it. */
class Application {
    private static final String[] EVENTS = {"data: 1\n\n", "id: 2\ndata: 2\n\n", ": the end\n\n"};

    public static void main(String[] arguments) throws IOException {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", Application::answer);
        server.start();
        System.err.println("listening on 127.0.0.1:" + server.getAddress().getPort());
    }

    private static void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            var headers = exchange.getResponseHeaders();
            var path = exchange.getRequestURI().getPath();
            switch (path.startsWith("/echo/") ? "/echo" : path) {
                case "/echo" -> echo(exchange);
                case "/old" -> {
                    headers.set("Location", "/echo/new?x=1");
                    say(exchange, 302, new byte[0]);
                }
                case "/cookies" -> {
                    headers.add("Set-Cookie", "a=1; Path=/; HttpOnly");
                    headers.add("Set-Cookie", "b=2; SameSite=Lax");
                    say(exchange, 200, bytes("two"));
                }
                case "/gzip" -> {
                    headers.set("Content-Encoding", "gzip");
                    say(exchange, 200, gzip(bytes("event ".repeat(5000))));
                }
                case "/entity" -> {
                    headers.set("ETag", "\"v1\"");
                    var known = "\"v1\"".equals(exchange.getRequestHeaders().getFirst("If-None-Match"));
                    say(exchange, known ? 304 : 200, bytes(known ? "" : "the first version"));
                }
                case "/empty" -> exchange.sendResponseHeaders(204, -1);
                case "/early" -> {
                    headers.set("Connection", "close");
                    say(exchange, 413, bytes("too large"));
                }
                case "/download" -> say(exchange, 200, download());
                case "/stream" -> stream(exchange);
                case "/fail" -> throw new IllegalStateException("on purpose");
                default -> say(exchange, 404, bytes("nothing here"));
            }
        }
    }

    private static void echo(HttpExchange exchange) throws IOException {
        var uri = exchange.getRequestURI();
        var body = exchange.getRequestBody().readAllBytes();
        // Of several fields of one name their values in order.
        var headers = exchange.getRequestHeaders().entrySet().stream()
                .map(field -> quoted(field.getKey().toLowerCase()) + ":" + quoted(String.join(", ", field.getValue())))
                .collect(Collectors.joining(","));
        var query = uri.getRawQuery() == null ? "" : uri.getRawQuery();
        var said = "{\"method\":%s,\"path\":%s,\"query\":%s,\"headers\":{%s},\"length\":%d,\"sha256\":%s}".formatted(
                quoted(exchange.getRequestMethod()), quoted(uri.getPath()), quoted(query), headers, body.length,
                quoted(sha256(body)));
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        say(exchange, 200, bytes(said));
    }

    private static void stream(HttpExchange exchange) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
        exchange.sendResponseHeaders(200, 0);
        for (var event : EVENTS) {
            exchange.getResponseBody().write(bytes(event));
            exchange.getResponseBody().flush();
        }
    }

    private static void say(HttpExchange exchange, int status, byte[] body) throws IOException {
        var silent = exchange.getRequestMethod().equals("HEAD") || body.length == 0;
        exchange.sendResponseHeaders(status, silent ? -1 : body.length);
        if (!silent) {
            exchange.getResponseBody().write(body);
        }
    }

    private static byte[] download() {
        var body = new byte[256 * 16 * 1024];
        for (var at = 0; at < body.length; at++) {
            body[at] = (byte) at;
        }
        return body;
    }

    private static byte[] gzip(byte[] plain) throws IOException {
        var packed = new ByteArrayOutputStream();
        try (var gzip = new GZIPOutputStream(packed)) {
            gzip.write(plain);
        }
        return packed.toByteArray();
    }

    private static String sha256(byte[] body) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
