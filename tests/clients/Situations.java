// Argument: the stage, `main` or `drain`. Brings Java's clients into every situation of deploy/clients.md; prints and reads the
// environment as situations.py does.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;

public class Situations {
    private static final int LIMIT = 60_000;
    private static final Map<String, Integer> SIZES = new LinkedHashMap<>();

    static {
        SIZES.put("upload 70 kB", 70_000);
        SIZES.put("upload 1 MB", 1_000_000);
        SIZES.put("upload 10 MB", 10_000_000);
    }

    /** Sends a request with a body of this length (0: a GET), and returns the status. */
    interface Client {
        int ask(String url, int size) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("drain")) {
            List<Thread> threads = new ArrayList<>();
            for (String name : NAMES) {
                Client client = client(name, "PRODUCER");
                Thread thread = new Thread(
                    () -> say(name, "drain within a request", () -> client.ask(env("DRAINED") + "/gated", 0)));
                threads.add(thread);
                thread.start();
            }
            for (Thread thread : threads) {
                thread.join();
            }
        } else {
            for (String name : NAMES) {
                all(name);
            }
            say("HttpClient, HTTP/2", "burst", Situations::burst);
        }
        System.exit(0);
    }

    private static final List<String> NAMES = List.of("HttpURLConnection", "HttpClient", "HttpClient, HTTP/2");

    private static Client client(String name, String who) throws Exception {
        SSLContext tls = tls(who);
        if (name.equals("HttpURLConnection")) {
            return (url, size) -> withUrlConnection(tls, url, size);
        }
        HttpClient client = client(tls, name.endsWith("2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1);
        return (url, size) -> client.send(request(url, size), BodyHandlers.ofString()).statusCode();
    }

    private static void all(String name) throws Exception {
        Client denied = client(name, "CONSUMER");
        SIZES.forEach((situation, size) -> say(name, situation, () -> denied.ask(env("URL") + "/events", size)));
        Client stranger = client(name, null);
        say(name, "401 to an upload", () -> stranger.ask(env("URL") + "/events", 70_000));
        Client allowed = client(name, "PRODUCER");
        say(name, "103", () -> allowed.ask(env("URL") + "/early", 0));
        say(name, "age within a request",
            () -> allowed.ask(env("AGED") + "/slow", 0) + ", " + allowed.ask(env("AGED") + "/events", 0));
    }

    private static String burst() throws Exception {
        HttpClient client = client(tls("PRODUCER"), HttpClient.Version.HTTP_2);
        // The first request makes the connection that the others share.
        client.send(request(env("URL") + "/events", 0), BodyHandlers.ofString());
        List<CompletableFuture<Integer>> asked = new ArrayList<>();
        for (int i = 0; i < 1000; i++) {
            asked.add(client.sendAsync(request(env("URL") + "/events", 0), BodyHandlers.ofString())
                .handle((answer, error) -> error == null ? answer.statusCode() : fail(error)));
        }
        int good = 0;
        for (var answer : asked) {
            good += answer.get() == 200 ? 1 : 0;
        }
        return good + " × 200" + (good == 1000 ? "" : ", others failed");
    }

    private static int fail(Throwable error) {
        System.err.println(error);
        return 0;
    }

    private static HttpClient client(SSLContext tls, HttpClient.Version version) {
        return HttpClient.newBuilder().sslContext(tls).version(version).build();
    }

    private static HttpRequest request(String url, int size) {
        var request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofMillis(LIMIT));
        return size == 0 ? request.build() : request.POST(BodyPublishers.ofByteArray(new byte[size])).build();
    }

    private static int withUrlConnection(SSLContext tls, String url, int size) throws Exception {
        var connection = (HttpsURLConnection) URI.create(url).toURL().openConnection();
        connection.setSSLSocketFactory(tls.getSocketFactory());
        connection.setReadTimeout(LIMIT);
        if (size > 0) {
            connection.setDoOutput(true);
            connection.setFixedLengthStreamingMode(size);
            try (var body = connection.getOutputStream()) {
                body.write(new byte[size]);
            }
        }
        int status = connection.getResponseCode();
        if (status < 200) {
            // Taken for the answer, with a body that never comes.
            return status;
        }
        try (var body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            if (body != null) {
                body.readAllBytes();
            }
        }
        return status;
    }

    private static SSLContext tls(String who) throws Exception {
        SSLContext tls = SSLContext.getInstance("TLS");
        var keys = who == null ? null
            : WithHttpClient.keys(WithHttpClient.certificates(env(who) + ".crt"), env(who) + ".key").getKeyManagers();
        tls.init(keys, WithHttpClient.trust(env("CA")).getTrustManagers(), null);
        return tls;
    }

    private static String env(String name) {
        return System.getenv(name);
    }

    private static void say(String client, String situation, Callable<?> act) {
        String result;
        try {
            result = act.call().toString();
        } catch (Exception error) {
            result = error.toString().lines().findFirst().orElse("").replace("|", "/");
        }
        System.out.println(client + " | " + situation + " | " + result);
    }
}
