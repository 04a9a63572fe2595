-- Whether a waiting call is to be notified: its session listens (functions/admission.sql). Else it asks again by itself.
ALTER TABLE admission_wait ADD COLUMN listens boolean NOT NULL DEFAULT false;
