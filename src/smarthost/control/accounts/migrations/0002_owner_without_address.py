from django.db import migrations, models


class Migration(migrations.Migration):
    """An address may be missing; two accounts without one are no conflict, so the key is NULL then."""

    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="email",
            field=models.CharField(blank=True, max_length=320),
        ),
        migrations.AlterField(
            model_name="user",
            name="email_key",
            field=models.CharField(max_length=320, null=True, unique=True),
        ),
    ]
