// Arguments: METHOD URL CA [CERTIFICATE KEY]. Prints the HTTP version, the status and the reason; the client is java.net.http.HttpClient.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.Base64;
import java.util.regex.Pattern;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class WithHttpClient {
    private static final char[] PASSWORD = "unused".toCharArray();

    public static void main(String[] arguments) throws Exception {
        SSLContext tls = SSLContext.getInstance("TLS");
        KeyManagerFactory keys = null;
        if (arguments.length == 5) {
            keys = keys(certificates(arguments[3]), arguments[4]);
        }
        tls.init(keys == null ? null : keys.getKeyManagers(), trust(arguments[2]).getTrustManagers(), null);
        HttpClient.Version version = HttpClient.Version.valueOf(System.getenv("HTTP"));
        HttpClient client = HttpClient.newBuilder().sslContext(tls).version(version).build();
        var body = arguments[0].equals("POST") ? BodyPublishers.ofString("x".repeat(1000)) : BodyPublishers.noBody();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[1]))
            .method(arguments[0], body).timeout(Duration.ofSeconds(20)).build();
        var answer = client.send(request, BodyHandlers.ofString());
        var reason = Pattern.compile("\"reason\":\"(\\w+)\"").matcher(answer.body());
        String name = answer.version() == HttpClient.Version.HTTP_2 ? "HTTP/2" : "HTTP/1.1";
        System.out.println(name + " " + answer.statusCode() + " " + (reason.find() ? reason.group(1) : "-"));
    }

    static Certificate[] certificates(String file) throws Exception {
        var text = new ByteArrayInputStream(Files.readAllBytes(Path.of(file)));
        return CertificateFactory.getInstance("X.509").generateCertificates(text).toArray(new Certificate[0]);
    }

    static TrustManagerFactory trust(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("ca", certificates(file)[0]);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust;
    }

    static KeyManagerFactory keys(Certificate[] chain, String file) throws Exception {
        String text = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]+-----|\\s", "");
        var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text)));
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setKeyEntry("client", key, PASSWORD, chain);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, PASSWORD);
        return keys;
    }
}
